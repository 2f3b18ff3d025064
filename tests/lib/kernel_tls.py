#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only
"""Does the running kernel have TLS? Found out by asking for it. Run as a program: status 0 if it has, 1 if not."""

import socket
import sys

TCP_ULP = 31


def available():
    with socket.create_server(("127.0.0.1", 0)) as listener, \
            socket.create_connection(listener.getsockname()) as sock:
        try:
            sock.setsockopt(socket.IPPROTO_TCP, TCP_ULP, b"tls")
        except OSError:
            return False
        return True


if __name__ == "__main__":
    sys.exit(0 if available() else 1)
