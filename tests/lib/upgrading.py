# SPDX-License-Identifier: GPL-2.0-only
"""The scene of upgrades: an agent that another one replaces, connections of every kind, and connects all the while."""

import json
import os
import threading
import time

from lib import agent as agent_program
from lib.agent import pinned_maps
from lib.case import SLOWNESS, expect, expect_that
from lib.paths import POSTERND
from lib.process import run, run_in
from lib.sockets import receive_exactly
from lib.stage import Stage
from lib.streaming import Streaming
from lib.tls_peer import server_context
from lib.topology import backend4
from lib.waiting import until
from lib.world import Service

MARKER = b"postern-upgrade-marker-61f3"
TLS_PORT = 8600
FIRST_PLAIN_PORT = 9300
DRAINED = r'event="?drained'
PAUSE = 0.002 if SLOWNESS == 1 else 0.5  # between connects: handshakes without a pause are all that an emulated CPU does
HANDED_OVER = r'event="handed over"'
# A SYN that is held for a second is sent again, and the cases count those that are: the machine's other load must not.
AHEAD = ("nice", "-n", "-10")


class UpgradeStage(Stage):
    def _build(self):
        super()._build()
        self.service = self.publish(Service("held", 40, target=TLS_PORT, hostname="echo.example"))
        self.context = server_context(self.leaf)
        self.agent.until_policy("held")
        self._next_port = FIRST_PLAIN_PORT
        self._background = []
        self.versions = self.directory / "versions"
        self.versions.mkdir()

    def new_agent(self, *arguments, program=None, **switches):
        agent_program.POSTERND = program or POSTERND
        switches.setdefault("coverage", "strict")
        switches.setdefault("watchdog", f"{10 * SLOWNESS}s")  # one emulated CPU for all of it
        switches.setdefault("before", AHEAD)
        try:
            return super().new_agent(*arguments, **switches)
        finally:
            agent_program.POSTERND = POSTERND

    def upgrade(self, program=None):
        """The next agent; comes back when connects are its own."""
        new = self.start_agent(program=program)
        expect_that("the new agent tells of the old one", any("an agent runs" in line for line in new.process.lines),
                    new.process.lines[:3])
        return new

    def serves(self):
        """
        Whether the stage's agent does, by its own word. That its process runs says nothing: a case may have failed before
        it had taken over, or while it ends, and until then the hooks refuse for whoever was there before.
        """
        handed_over = any(HANDED_OVER.split('"')[1] in line for line in self.agent.process.lines)
        return self.agent.process.running() and not handed_over and self.agent.answers()

    def revive(self):
        """An agent that serves, whatever the last case left."""
        self.end_background()
        if not self.serves():
            self.agent.kill()
            self.start_agent()

    # What runs beside a case; one that failed leaves nothing running, which an emulated CPU would have no time for.

    def streaming(self, pairs, stuffed=()):
        self._background.append(Streaming(pairs, stuffed=stuffed))
        return self._background[-1]

    def connecting(self):
        self._background.append(Connecting(self))
        return self._background[-1]

    def end_background(self):
        while self._background:
            self._background.pop().close()

    def plain_pairs(self, count):
        """Relayed plain connections: each to a destination that was never dialed, so that it is held and then PLAIN."""
        pairs = []
        while len(pairs) < count:
            port, self._next_port = self._next_port, self._next_port + 1
            with self.backend.listen("0.0.0.0", port) as listener:
                for number in range(2, min(10, 2 + count - len(pairs))):
                    g = self.gateway.connect(backend4(number), port)
                    pairs.append((g, listener.accept()[0]))
        return pairs

    def tls_pairs(self, backend, count):
        """Connections to a backend with TLS: (G, its TlsPeer); a marker has gone each way, so both directions flow."""
        pairs = []
        for _ in range(count):
            g = self.gateway.connect(self.service.vip4, 80)
            pairs.append((g, backend.take()))
        for pair in pairs:
            exchange_markers(*pair)
        return pairs

    def tls_rows(self, agent):
        """What an agent says of them."""
        return [row for row in agent.connections() if row["destination"] == f"{self.service.vip4}:80"]

    def lane_is_safe(self):
        hooks = {row["hook"]: row["verdict"] for row in self.agent.status()["proof"]["hooks"]}
        return hooks["lane"] == "safe"

    def has_handed_over(self, old):
        """
        Asked when its successor is dead. What that one said last may lie there unread; the question comes behind it.
        """
        try:
            old.status()
            return False
        except (OSError, ValueError):  # its socket goes when it hands over, perhaps with the question in it
            old.process.wait_for(HANDED_OVER, within=5 * SLOWNESS)
            return True

    def serves_again(self, old):
        """Until the old agent has put everything back."""
        until(lambda: old.status()["ready"], 30 * SLOWNESS, "the old agent, ready")
        expect_serves(self, old)

    def empty_gateway_entry(self):
        """What a successor might have written last: the gateway's entry without a port."""
        path = pinned_maps(self.bpffs)["gateway_map"]
        entry = json.loads(run("bpftool", "--json", "map", "dump", "pinned", path).stdout)[0]
        value = [int(each, 16) for each in entry["value"]]
        value[12:16] = [0, 0, 0, 0]  # port_count
        run("bpftool", "map", "update", "pinned", path, "key", *entry["key"], "value", *map(hex, value))

    def relayed(self):
        return len(self.agent.connections())

    def expect_no_syn_again(self, before):
        """
        Since repeated_syns() was before. Each would be a record or a SYN that was lost, and a second of waiting. Under a
        sanitizer a second passes in which nothing was lost: seen at a load of 24.
        """
        if not os.environ.get("POSTERN_SANITIZED"):
            expect("SYNs sent again", self.repeated_syns() - before, 0)

    def repeated_syns(self):
        """SYNs that sockets of the gateway's namespace sent again."""
        names, values = [line.split() for line in run_in(self.network["gateway"], "cat", "/proc/net/netstat").stdout
                         .splitlines() if line.startswith("TcpExt")]
        return int(values[names.index("TCPSynRetrans")])

    def version(self, name):
        """The program with another version in it, as long as its own."""
        own = self.agent.status()["version"].encode()
        path = self.versions / name
        path.write_bytes(POSTERND.read_bytes().replace(own, name.encode().ljust(len(own), b"x")[:len(own)]))
        path.chmod(0o755)
        return path


class Connecting:
    """Connects one after the other while something else happens: to what is covered, and by a real gateway."""

    def __init__(self, stage):
        self._stage = stage
        self._stop = threading.Event()
        self.failures, self.count, self.slowest = [], 0, 0
        self._threads = [threading.Thread(target=self._run, args=(each,), daemon=True)
                         for each in (self._connect, self._request)]
        for thread in self._threads:
            thread.start()

    def _connect(self):
        self._stage.gateway.connect(self._stage.echo.vip4, 80, timeout=10 * SLOWNESS).close()

    def _request(self):
        status = self._stage.ask("vip4", headers={"X-Marker": MARKER.decode()}).status
        if status != 200:
            raise OSError(f"status {status}")

    def _run(self, action):
        while not self._stop.wait(PAUSE):
            begun = time.monotonic()
            try:
                action()
            except Exception as error:  # pylint: disable=broad-except
                self.failures.append(f"{time.strftime('%H:%M:%S')} {error!r}")
            self.count += 1
            self.slowest = max(self.slowest, time.monotonic() - begun)

    def close(self):
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def stop(self):
        self.close()
        expect("failed connects and requests", self.failures[:5], [])
        return self.count


def exchange_markers(g, peer):
    g.sendall(MARKER)
    expect("bytes at the backend", peer.receive_exactly(len(MARKER)), MARKER)
    peer.send(MARKER)
    expect("bytes at the gateway", receive_exactly(g, len(MARKER)), MARKER)


def expect_serves(stage, agent):
    expect("it runs", agent.process.running(), True)
    expect("a request", stage.ask("vip4").status, 200)
    expect("its word", agent.status()["ready"], True)
