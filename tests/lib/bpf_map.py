# SPDX-License-Identifier: GPL-2.0-only
"""A pinned BPF array map with BPF_F_MMAPABLE, mapped into the test: for looking at the lane's slots, and forging them."""

import ctypes
import mmap
import os
import platform
import struct

BPF_OBJ_GET = 7
BPF_SYSCALL = {"x86_64": 321, "aarch64": 280}


def open_pinned(path):
    """A descriptor of a pinned object."""
    name = ctypes.create_string_buffer(str(path).encode())
    attributes = struct.pack("QII", ctypes.addressof(name), 0, 0).ljust(120, b"\0")
    descriptor = ctypes.CDLL(None, use_errno=True).syscall(BPF_SYSCALL[platform.machine()], BPF_OBJ_GET, attributes,
                                                           len(attributes))
    if descriptor < 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error), str(path))
    return descriptor


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
