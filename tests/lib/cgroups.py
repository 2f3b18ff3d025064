# SPDX-License-Identifier: GPL-2.0-only
"""The cgroups of a run: one each for the agent, for every gateway and for the backends, siblings below one parent."""

import os

from lib.paths import PREFIX, cgroup2_mount
from lib.waiting import until


class Cgroups:
    def __init__(self):
        self.root = cgroup2_mount() / f"{PREFIX}{os.getpid()}"
        self.root.mkdir()

    def make(self, name):
        path = self.root / name
        path.mkdir(parents=True, exist_ok=True)
        return path

    def close(self):
        remove_tree(self.root)


def remove_tree(root):
    """Kill what runs below root, and remove it and everything below it."""
    if not root.exists():
        return
    kill = root / "cgroup.kill"
    if kill.exists():
        kill.write_text("1")
    until(lambda: "populated 0" in (root / "cgroup.events").read_text(), 10, f"{root} without processes")
    for directory, _, _ in os.walk(root, topdown=False):
        os.rmdir(directory)


def remove_leftovers():
    """What runs that are no more have left behind: processes and cgroups."""
    for root in cgroup2_mount().glob(f"{PREFIX}*"):
        owner = root.name[len(PREFIX):]
        if owner.isdigit() and not os.path.exists(f"/proc/{owner}"):
            remove_tree(root)
