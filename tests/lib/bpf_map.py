# SPDX-License-Identifier: GPL-2.0-only
"""
Pinned BPF maps by the system call itself, for what bpftool cannot do: the lane's slots mapped into the test (to look at,
and to forge), the keys of a sockhash.
"""

import ctypes
import mmap
import os
import platform
import struct

BPF_MAP_GET_NEXT_KEY = 4
BPF_OBJ_GET = 7
BPF_SYSCALL = {"x86_64": 321, "aarch64": 280}


def _bpf(command, attributes):
    result = ctypes.CDLL(None, use_errno=True).syscall(BPF_SYSCALL[platform.machine()], command,
                                                       attributes.ljust(120, b"\0"), 120)
    if result < 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
    return result


def open_pinned(path):
    """A descriptor of a pinned object."""
    name = ctypes.create_string_buffer(str(path).encode())
    try:
        return _bpf(BPF_OBJ_GET, struct.pack("QII", ctypes.addressof(name), 0, 0))
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error


def keys(path, size=8):
    """The keys of a pinned hash map of any kind, which may change meanwhile: then some may be missing."""
    key, following = ctypes.create_string_buffer(size), ctypes.create_string_buffer(size)
    descriptor, found = open_pinned(path), []
    try:
        while True:
            before = ctypes.addressof(key) if found else 0
            try:
                _bpf(BPF_MAP_GET_NEXT_KEY, struct.pack("IIQQ", descriptor, 0, before, ctypes.addressof(following)))
            except FileNotFoundError:
                return found
            found.append(following.raw)
            key.raw = following.raw
    finally:
        os.close(descriptor)


class LaneSlots:
    """struct postern_lane_slot of include/postern/abi.h: redirected_bytes, agent_read, redirected, passed; one cache line each."""

    SIZE = 64
    COUNT = 16384

    def __init__(self, path):
        descriptor = open_pinned(path)
        try:
            self._memory = mmap.mmap(descriptor, self.SIZE * self.COUNT)
        finally:
            os.close(descriptor)

    def read(self, slot):
        """(redirected_bytes, agent_read, redirected, passed)"""
        return struct.unpack_from("4Q", self._memory, slot * self.SIZE)

    def used(self):
        """The slots that have counted something."""
        return [slot for slot in range(self.COUNT) if self._memory[slot * self.SIZE:slot * self.SIZE + 8] != bytes(8)]

    def forge_empty(self, slot, sent):
        """Pretend that the agent has read all that G has sent: the credit window is then open without end."""
        struct.pack_into("Q", self._memory, slot * self.SIZE + 8, sent)

    def close(self):
        self._memory.close()
