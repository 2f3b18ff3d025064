#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only
"""A gateway that dials from its first instruction on: ADDRESS PORT MARKER. A dot for each connect that sent its marker."""

import socket
import sys


def main():
    address, port, marker = sys.argv[1], int(sys.argv[2]), sys.argv[3].encode()
    print("begun", flush=True)
    while True:
        with socket.socket() as g:
            g.settimeout(1)
            try:
                g.connect((address, port))
                g.sendall(marker)
                print("sent", flush=True)
            except OSError as error:
                print(f"failed {error.errno}", flush=True)


if __name__ == "__main__":
    main()
