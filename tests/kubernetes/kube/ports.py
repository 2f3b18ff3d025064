# SPDX-License-Identifier: GPL-2.0-only
"""Ports of 127.0.0.1 that nobody has."""

import socket

_held = []


def free_ports(count):
    """
    Nobody else is given them as long as this process lives: each is bound here and never listens, which bars the kernel
    from choosing it for another. Who listens with SO_REUSEADDR, as all servers of these tests do, may have it, and after
    its end the next one; until then it refuses.
    """
    made = [socket.socket() for _ in range(count)]
    for each in made:
        each.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        each.bind(("127.0.0.1", 0))
    _held.extend(made)
    return [each.getsockname()[1] for each in made]
