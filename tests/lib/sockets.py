#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only
"""
Sockets of another namespace and cgroup, for use in the test's own process.

A socket belongs for life to the network namespace and the cgroup of the process that made it. So a small child is
placed there, makes sockets on demand, and hands each over its UNIX socket; the test then connects, binds, sends and
resets them as it likes, and the kernel sees the gateway's own sockets.
"""

import errno
import os
import select
import socket
import struct
import sys
import threading

if __name__ != "__main__":
    from lib.case import SLOWNESS
    from lib.paths import PYTHON
    from lib.process import Process

RESET_ON_CLOSE = struct.pack("ii", 1, 0)


class SocketMaker:
    def __init__(self, netns, cgroup=None):
        self._lock = threading.Lock()
        self._ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = Process([PYTHON, __file__, theirs.fileno()], netns, cgroup, pass_fds=[theirs.fileno()])

    def socket(self, family=socket.AF_INET, kind=socket.SOCK_STREAM, protocol=0):
        with self._lock:
            self._ours.send(struct.pack("iii", int(family), int(kind), protocol))
            answer, descriptors, _, _ = socket.recv_fds(self._ours, 64, 1)
        if not descriptors:
            raise OSError(int(answer or b"0"), f"no socket from the maker: {self._process.lines[-3:]}")
        return socket.socket(fileno=descriptors[0])

    def connect(self, address, port, timeout=None, source=None, blocking=False):
        """
        A connected TCP socket, or the kernel's own error. timeout: of each call on it (10 s; longer in a guest), a
        sendall() of any size included. With a timeout Python makes the descriptor O_NONBLOCK, as
        event-driven gateways do; blocking=True leaves it blocking, and the kernel keeps the timeout.
        """
        timeout = 10 * SLOWNESS if timeout is None else timeout
        sock = self.socket(family_of(address))
        try:
            if blocking:
                limit = struct.pack("ll", int(timeout), 0)
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, limit)
            else:
                sock.settimeout(timeout)
            if source:
                sock.bind((source, 0))
            sock.connect((address, port))
        except BaseException:
            sock.close()
            raise
        return sock

    def start_connect(self, address, port):
        """A socket whose connect() is on its way; finish_connect() waits for what becomes of it."""
        sock = self.socket(family_of(address))
        sock.setblocking(False)
        error = sock.connect_ex((address, port))
        if error not in (0, errno.EINPROGRESS):
            sock.close()
            raise OSError(error, os.strerror(error))
        return sock

    def listen(self, address, port, backlog=128):
        sock = self.socket(family_of(address))
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if ":" in address:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind((address, port))
        sock.listen(backlog)
        return sock

    def close(self):
        self._ours.close()
        self._process.stop()


def finish_connect(sock, timeout=10):
    """Wait for the end of a connect(); the kernel's own error, or nothing."""
    _, writable, _ = select.select([], [sock], [], timeout)
    if not writable:
        raise TimeoutError(f"connect() still on its way after {timeout} s")
    error = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    if error:
        raise OSError(error, os.strerror(error))
    sock.settimeout(timeout)


def family_of(address):
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def reset(sock):
    """Close with a reset instead of a FIN."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
    sock.close()


def receive_exactly(sock, size):
    """size bytes of a plain socket, or what came before its end."""
    pieces = []
    while size:
        piece = sock.recv(min(size, 1 << 18))
        if not piece:
            break
        pieces.append(piece)
        size -= len(piece)
    return b"".join(pieces)


def receive_all(sock):
    return b"".join(iter(lambda: sock.recv(1 << 18), b""))


def _serve(descriptor):
    channel = socket.socket(fileno=descriptor)
    while request := channel.recv(64):
        try:
            with socket.socket(*struct.unpack("iii", request)) as made:
                socket.send_fds(channel, [b"ok"], [made.fileno()])
        except OSError as error:
            channel.send(str(error.errno).encode())


if __name__ == "__main__":
    _serve(int(sys.argv[1]))
