# SPDX-License-Identifier: GPL-2.0-only
"""Successors that behave badly, at the agent's handover socket: what an agent must survive (agent/control/successor.h)."""

import json
import os
import re
import socket
import struct
from contextlib import contextmanager

from lib.paths import REPOSITORY

MAGIC = 0x726F7664
ABI = int(re.search(r"define POSTERN_ABI_VERSION (\d+)", (REPOSITORY / "include/postern/abi.h").read_text()).group(1))
HELLO, WELCOME, FREEZE, FROZEN, SWITCHED, COMMITTED, CONNECTION = range(1, 8)


class Channel:
    def __init__(self, run_directory):
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(10)
        self._socket.connect(str(run_directory / "handover.sock"))

    def send(self, kind, body=b"", descriptors=()):
        header = struct.pack("<IHHQ", MAGIC, kind, len(descriptors), len(body))
        if descriptors:
            socket.send_fds(self._socket, [header + body], list(descriptors))
        else:
            self._socket.sendall(header + body)

    def send_bytes(self, data):
        self._socket.sendall(data)

    def receive(self):
        """(kind, body), or None at the end."""
        header = self._exactly(16)
        if header is None:
            return None
        _, kind, _, size = struct.unpack("<IHHQ", header)
        return kind, self._exactly(size)

    def hello(self):
        self.send(HELLO, json.dumps({"protocol": 1, "abi": ABI, "version": "fake"}).encode())
        kind, body = self.receive()
        assert kind == WELCOME, kind
        return json.loads(body)

    def freeze(self):
        self.send(FREEZE)
        kind, _ = self.receive()
        assert kind == FROZEN, kind

    def expect_end(self):
        """The agent closes the channel: it has had enough."""
        try:
            seen = self.receive()
        except ConnectionResetError:
            return
        assert seen is None, seen

    def close(self):
        self._socket.close()

    def _exactly(self, size):
        data = b""
        while len(data) < size:
            piece = self._socket.recv(size - len(data))
            if not piece:
                return None
            data += piece
        return data


def closes_at_once(run_directory):
    Channel(run_directory).close()


def nonsense(run_directory):
    for data in (b"GET / HTTP/1.1\r\n\r\n", os.urandom(64), struct.pack("<IHHQ", MAGIC, HELLO, 0, 1 << 40),
                 struct.pack("<IHHQ", MAGIC, 99, 0, 0), struct.pack("<IHHQ", MAGIC, HELLO, 0, 4) + b"{{{{",
                 struct.pack("<IHHQ", MAGIC, HELLO, 0, 2) + b"{}"):
        channel = Channel(run_directory)
        channel.send_bytes(data)
        channel.expect_end()
        channel.close()


def greets_and_closes(run_directory):
    channel = Channel(run_directory)
    channel.hello()
    channel.close()


def freezes_and_closes(run_directory):
    channel = Channel(run_directory)
    channel.hello()
    channel.freeze()
    channel.close()


def switches_unasked(run_directory):
    channel = Channel(run_directory)
    channel.hello()
    channel.send(SWITCHED)
    channel.expect_end()
    channel.close()


def sends_a_connection(run_directory):
    """It is the old agent that sends them."""
    ours, theirs = socket.socketpair()
    channel = Channel(run_directory)
    channel.hello()
    channel.send(CONNECTION, b"x" * 64, (ours.fileno(), theirs.fileno()))
    channel.expect_end()
    channel.close()


@contextmanager
def frozen(run_directory):
    """The agent writes no map inside."""
    channel = Channel(run_directory)
    channel.hello()
    channel.freeze()
    yield
    channel.close()
