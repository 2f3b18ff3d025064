# SPDX-License-Identifier: GPL-2.0-only
"""Ports of 127.0.0.1 that nobody has."""

import socket
from contextlib import ExitStack


def free_ports(count):
    """They are free at this moment; a server that is started soon finds them so, as the kernel gives others first."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
