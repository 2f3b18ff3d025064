# SPDX-License-Identifier: GPL-2.0-only
"""What the world of a test file and a cluster have in common: how they come and go."""

from contextlib import ExitStack


class Built:
    """
    Made step by step by _build(), which puts into self._stack how each step is undone. All of it is, the last step first,
    at the end of the block and when a step fails.
    """

    def __init__(self):
        self._stack = ExitStack()

    def __enter__(self):
        try:
            self._build()
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(self, *_):
        self._stack.close()

    def _build(self):
        raise NotImplementedError

    def close_at_end(self, thing):
        self._stack.callback(thing.close)
        return thing
