# SPDX-License-Identifier: GPL-2.0-only
"""
Bytes that tell their place: a random block whose length is prime, over and over. A byte lost, changed, doubled or out
of order shifts everything after it, at any record or segment size; and a compare costs no hashing.
"""

import random

LENGTH = 1_000_003


class Pattern:
    def __init__(self, seed=1):
        block = random.Random(seed).randbytes(LENGTH)
        self._twice = memoryview(block + block)

    def piece(self, offset, size):
        """size bytes (at most LENGTH) of the stream from offset on."""
        start = offset % LENGTH
        return self._twice[start:start + size]

    def pieces(self, total, size=1 << 18):
        for offset in range(0, total, size):
            yield self.piece(offset, min(size, total - offset))

    def whole(self, total):
        return b"".join(self.pieces(total))


class Checker:
    """Feed it what arrives: wrong_at is the offset of the first wrong byte, or None."""

    def __init__(self, pattern):
        self._pattern = pattern
        self.received = 0
        self.wrong_at = None

    def feed(self, data):
        view = memoryview(data)
        while view and self.wrong_at is None:
            expected = self._pattern.piece(self.received, min(len(view), LENGTH))
            if view[:len(expected)] != expected:
                self.wrong_at = self.received + next(
                    index for index, (seen, wanted) in enumerate(zip(view, expected)) if seen != wanted)
            self.received += len(expected)
            view = view[len(expected):]
