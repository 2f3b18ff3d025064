#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only
"""
The Debian package under a real systemd: what a machine without Kubernetes has. Run by `in-guest systemd`, as a service of
that machine; nginx is its gateway, as Debian's own nginx.service, found by its cgroup. Each case goes on where the one before ended.
"""

import json
import os
import shutil
import signal
import sys
import threading
from pathlib import Path

sys.path[:0] = [os.path.dirname(os.path.dirname(os.path.abspath(__file__)))]

from lib import manifests
from lib.case import SLOWNESS, case, expect, expect_that, main
from lib.process import run
from lib.waiting import until
from scene import CLUSTER_CIDRS, GATEWAY, GOOD, MARKER, WITHIN, Scene, expect_clean, expect_covered, systemd_has

UNIT = "posternd.service"
CONFIGURATION = Path("/etc/postern/postern.yaml")
PINS = Path("/sys/fs/bpf/postern")
BETWEEN = 0.2  # requests: the one CPU has more to do
SETTINGS = f"""
manifests: /etc/postern/manifests
clusterCIDRs: {json.dumps(CLUSTER_CIDRS)}
gateways:
- name: default/edge
"""


class Machine(Scene):
    def __enter__(self):
        super().__enter__()
        Path("/etc/nginx/conf.d/gateway.conf").write_text(GATEWAY)
        Path("/etc/nginx/sites-enabled/default").unlink(missing_ok=True)
        return self

    @staticmethod
    def write_settings(*lines):
        CONFIGURATION.write_text(SETTINGS + "".join(f"  {line}\n" for line in lines))

    def write_manifests(self):
        things, slices = self.objects()
        manifests.Directory(Path("/etc/postern/manifests")).write("all.yaml", *things, *slices)

    @staticmethod
    def until_ready(cgroup):
        """The gateway, as the agent says, has its hooks on this cgroup."""
        def ready():
            gateway, = json.loads(run("posternctl", "--json", "status", check=False).stdout)["gateways"]
            return gateway["state"] == "ready" and gateway["cgroup"].endswith(cgroup)
        until(ready, WITHIN, f"a gateway ready on {cgroup}", every=0.2)


def show(name, unit=UNIT):
    return systemd_has(name, unit)


def main_pid():
    return int(show("MainPID"))


def journal(words):
    return words in run("journalctl", "--no-pager", "--output=cat", f"--unit={UNIT}").stdout


def agents():
    """The processes of the unit."""
    return [int(line) for line in Path(f"/sys/fs/cgroup{show('ControlGroup')}/cgroup.procs").read_text().split()]


def pins():
    return [str(path) for path in PINS.rglob("*") if path.is_file()]


@case("the machine is one that systemd has booted, with cgroup v2 alone")
def booted(machine):
    expect("the first process", Path("/proc/1/comm").read_text().strip(), "systemd")
    kinds = [line.split(" - ")[1].split()[0] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    expect("hierarchies of cgroups", [kind for kind in kinds if kind.startswith("cgroup")], ["cgroup2"])
    release = Path("/etc/os-release").read_text()
    print(f"     {run('systemctl', '--version').stdout.splitlines()[0]}, Linux {os.uname().release}, "
          f"{release.partition('PRETTY_NAME=')[2].splitlines()[0]}, {machine.package.name}", flush=True)


@case("the package installs: nothing runs, systemd finds nothing wrong with the unit, the settings are right")
def installed(machine):
    run("dpkg", "--install", machine.package)
    expect("active", show("ActiveState"), "inactive")
    expect("what systemd-analyze says", run("systemd-analyze", "verify", UNIT).stderr, "")
    machine.write_settings("cgroup: /system.slice/nginx.service")
    machine.write_manifests()
    run("posternd", "--check-config")


@case("it starts: READY=1 comes, and it is what the unit asks for", limit=120)
def started(machine):
    run("systemctl", "start", UNIT)
    expect("active, by its own word", (show("ActiveState"), show("Type"), show("StatusErrno")), ("active", "notify", "0"))
    expect("its cgroup", show("ControlGroup"), "/postern.slice/posternd.service")
    status = dict(line.split(":\t", 1) for line in Path(f"/proc/{main_pid()}/status").read_text().splitlines()
                  if ":\t" in line)
    names = run("setpriv", "--list-caps").stdout.split()
    held = {f"cap_{name}" for number, name in enumerate(names) if int(status["CapBnd"], 16) >> number & 1}
    expect("capabilities", held, set(show("CapabilityBoundingSet").split()))
    expect("no new privileges, a filter", (status["NoNewPrivs"].strip(), status["Seccomp"].strip()), ("1", "2"))


@case("nginx.service is served as it is, by its cgroup: TLS on the wire", limit=120)
def served(machine):
    run("systemctl", "restart", "nginx.service")
    machine.until_ready("/system.slice/nginx.service")
    with machine.wire() as wire:
        expect_covered(machine, wire)
    expect("what no policy covers", machine.ask("/plain/")[0], (200, "", MARKER))


class Load:
    """Requests, one after the other; each answer that was not right is kept."""

    def __init__(self, machine):
        self._machine, self._over = machine, threading.Event()
        self.good, self.bad = 0, []
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self):
        while not self._over.wait(BETWEEN):
            try:
                answer, _ = self._machine.ask()
            except OSError as error:
                answer = repr(error)
            if answer == GOOD:
                self.good += 1
            else:
                self.bad.append(answer)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._over.set()
        self._thread.join(WITHIN)


def newer(machine, version, program=None):
    """The same package with a version above; program: a script in the place of its posternd."""
    tree, made = machine.directory / version, machine.directory / f"{version}.deb"
    run("dpkg-deb", "--raw-extract", machine.package, tree)
    control = tree / "DEBIAN/control"
    control.write_text("".join(f"{line}+{version}\n" if line.startswith("Version: ") else f"{line}\n"
                               for line in control.read_text().splitlines()))
    if program:
        (tree / "usr/sbin/posternd").write_text(program)
    run("dpkg-deb", "-Znone", "--build", tree, made)
    return made


@case("a newer package takes over: another main process, live connections go on, no request is lost", limit=300)
def upgraded(machine):
    package, before = newer(machine, "1"), main_pid()
    with machine.wire() as wire:
        answer, kept = machine.ask("/kept/")
        expect("status, SNI, marker", answer, GOOD)
        with Load(machine) as load:
            until(lambda: load.good > 3 or load.bad, WITHIN, "requests before")
            run("dpkg", "--install", package)
            mark = load.good
            until(lambda: load.good > mark + 3 or load.bad, WITHIN, "requests after")
        expect("requests that were lost", load.bad[:3], [])
        print(f"     {load.good} requests", flush=True)
        expect_that("another main process", main_pid() not in (0, before), main_pid())
        expect("active, restarts", (show("ActiveState"), show("NRestarts")), ("active", "0"))
        expect("its program", os.readlink(f"/proc/{main_pid()}/exe"), "/usr/sbin/posternd")
        expect("a connection from before", machine.ask("/kept/"), (GOOD, kept))
        expect_clean(wire)
    until(lambda: agents() == [main_pid()], WITHIN, "the end of the one before", every=0.2)
    mark = show("WatchdogTimestampMonotonic")
    until(lambda: show("WatchdogTimestampMonotonic") != mark, WITHIN, "a WATCHDOG=1 of the one that took over", every=0.5)
    expect("a connection from before, when it has ended", machine.ask("/kept/"), (GOOD, kept))


@case("a newer package whose program never takes over: the reload fails in its time, and the one before goes on alone", limit=300)
def not_upgraded(machine):
    before, (_, kept) = main_pid(), machine.ask("/kept/")
    impatience = Path("/run/systemd/system/posternd.service.d/impatience.conf")
    impatience.parent.mkdir(parents=True)
    impatience.write_text("[Service]\nTimeoutStartSec=5s\n")
    said = run("dpkg", "--install", newer(machine, "2", "#!/bin/sh\nexec sleep infinity\n")).stderr
    expect_that("the package's word", "the one before goes on" in said, said)
    until(lambda: agents() == [before], WITHIN, "the end of the one that did not take over", every=0.2)
    expect("active, main process", (show("ActiveState"), main_pid()), ("active", before))
    expect("a connection from before", machine.ask("/kept/"), (GOOD, kept))
    impatience.unlink()
    run("dpkg", "--install", newer(machine, "3"))
    expect_that("another main process", main_pid() not in (0, before), main_pid())
    expect("a connection from before the next one", machine.ask("/kept/"), (GOOD, kept))


@case("the one that took over is killed: systemd sees it, and it is back at once; what is covered is refused or TLS", limit=120)
def killed(machine):
    before = int(show("NRestarts"))
    with machine.wire() as wire:
        os.kill(main_pid(), signal.SIGKILL)
        until(lambda: (show("NRestarts"), show("ActiveState")) == (str(before + 1), "active"), WITHIN, "a restart", every=0.2)
        machine.until_served()
        expect_clean(wire)


@case("stopped, what is covered is refused, all else goes on; started, it is served", limit=120)
def stopped(machine):
    with machine.wire() as wire:
        run("systemctl", "stop", UNIT)
        expect("active, result", (show("ActiveState"), show("Result")), ("inactive", "success"))
        expect("what is covered", machine.ask()[0][0], 502)
        expect("what no policy covers", machine.ask("/plain/")[0], (200, "", MARKER))
        expect_that("hooks that stay", pins(), [])
        run("systemctl", "start", UNIT)
        machine.until_served()
        expect_clean(wire)


@case("in a slice of its own nginx cannot start before its hooks are on", limit=300)
def sliced(machine):
    run("systemctl", "stop", "nginx.service")
    shipped = Path("/usr/share/doc/postern/systemd")
    shutil.copy(shipped / "gateway-nginx.slice", "/etc/systemd/system/")
    shutil.copytree(shipped / "nginx.service.d", "/etc/systemd/system/nginx.service.d")
    machine.write_settings("cgroup: /gateway.slice/gateway-nginx.slice", "netns: /proc/1/ns/net")
    run("systemctl", "daemon-reload")
    run("systemctl", "enable", "gateway-nginx.slice")
    run("systemctl", "start", "gateway-nginx.slice")
    run("systemctl", "restart", UNIT)
    machine.until_ready("/gateway.slice/gateway-nginx.slice")
    with machine.wire() as wire:
        run("systemctl", "start", "nginx.service")
        expect("its cgroup", show("ControlGroup", "nginx.service"), "/gateway.slice/gateway-nginx.slice/nginx.service")
        expect_covered(machine, wire)


@case("stopped in its tracks, it is killed by systemd's watchdog, and another one serves", limit=300)
def watchdog(machine):
    before, restarts = main_pid(), int(show("NRestarts"))
    with machine.wire() as wire:
        os.kill(before, signal.SIGSTOP)
        until(lambda: int(show("NRestarts")) == restarts + 1, 200 * SLOWNESS, "a restart", every=1)
        machine.until_served()
        expect_clean(wire)
    expect_that("systemd's own word", journal("Watchdog timeout"), run("journalctl", "-u", UNIT, "-n", "20").stdout)
    expect_that("another main process", main_pid() not in (0, before), main_pid())


@case("removed, it takes its hooks along; purged, nothing of it is left", limit=120)
def removed(machine):
    run("dpkg", "--remove", "postern")
    expect("pins", pins(), [])
    expect("unit", show("LoadState"), "not-found")
    expect("the gateway dials by itself: HTTP to a port that wants TLS", machine.ask()[0][0], 400)
    expect_that("settings that stay", CONFIGURATION.exists(), "none")
    run("dpkg", "--purge", "postern")
    left = [path for path in (CONFIGURATION.parent, Path("/run/postern"), Path("/usr/sbin/posternd"), PINS) if path.exists()]
    expect("left of it", left, [])


if __name__ == "__main__":
    main(Machine)
