# SPDX-License-Identifier: GPL-2.0-only
"""Waiting for what sends no event of its own: asked again and again, until it is so or the time is over."""

import time

from lib.case import SLOWNESS

# Ends a wait whose length is not what the test is about: far more than a busy machine takes.
LONG = 30 * SLOWNESS


class NotInTime(Exception):
    pass


def until(question, within, what, every=0.02):
    """
    The first true answer of question(). Only for things that cannot be awaited: a counter, a list of sockets.
    what: in words what was waited for, or a function that says it when the time is over.
    """
    deadline = time.monotonic() + within
    while True:
        answer = question()
        if answer:
            return answer
        if time.monotonic() >= deadline:
            raise NotInTime(f"expected {what() if callable(what) else what} within {within} s, last seen {answer!r}")
        time.sleep(every)
