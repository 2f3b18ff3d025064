#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only
"""
Policy changes under load. 50 connections a second are made while a policy changes: from the first connection that
follows the new snapshot on, every one that begins does; none is lost, and none goes plain. Connections from before are
verified once more: they live on, or are reset within a second.
"""

import itertools
import os
import socket
import ssl
import sys
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

sys.path[:0] = [os.path.dirname(os.path.dirname(os.path.abspath(__file__)))]

from lib import manifests
from lib.backend import Backend
from lib.case import SLOWNESS, case, expect, expect_that, main
from lib.certificates import Authority
from lib.sockets import receive_exactly
from lib.tls_peer import TlsPeer, server_context
from lib.topology import backend4, backend6
from lib.waiting import until
from lib.world import Service, World

MARKER = b"postern-load-marker-51c7"
PORT = 9100
RATE = 50 / SLOWNESS  # connections a second
SWITCH_WITHIN = 10 * SLOWNESS  # ends a wait; a written manifest decides new connections in a fraction of a second
# Once it does. Sooner than the agent's look at all connections every 5 s, so that it was the change that did it.
RESET_WITHIN = 3 * SLOWNESS
LIVE = 6  # connections that are there before each change
REFUSED, PLAIN = "refused", "plain"
SANS = ("DNS:one.example", "DNS:two.example")


@dataclass
class Attempt:
    address: tuple
    began: float
    ended: float
    outcome: str  # what the backend saw ("TLSv1.3 one.example old-ca"), REFUSED, "reset", or "lost: ..."


class Speaker:
    """
    A backend that answers each marker with what it saw of its connection: TLS version, SNI, whose leaf it showed; or
    "plain". Its leaf can be changed while it runs.
    """

    def __init__(self, world, port, leaf, name):
        self.answers = Counter()
        self._lock = threading.Lock()
        self.show(leaf, name)
        for address in (backend4(2), backend6(2)):
            world.close_at_end(Backend(world.backend, address, port, script=self._serve))

    def show(self, leaf, name):
        context = server_context(leaf)
        context.sni_callback = _keep_name
        self._shown = context, name

    def _serve(self, sock):
        if sock.recv(1, socket.MSG_PEEK)[:1] == b"\x16":
            context, name = self._shown
            peer = TlsPeer(sock, context).handshake()
            self._answer(peer.receive_exactly, peer.send, f"{peer.tls.version()} {peer.tls.name} {name}")
            if peer.ending == "close_notify":
                peer.close_notify()
        else:
            self._answer(lambda size: receive_exactly(sock, size), sock.sendall, PLAIN)
        sock.close()

    def _answer(self, receive, send, seen):
        try:
            while receive(len(MARKER)) == MARKER:
                with self._lock:
                    self.answers[seen] += 1
                send(f"{seen}\n".encode())
        except (ssl.SSLError, OSError):
            pass  # the gateway's end is gone


def _keep_name(tls, name, _context):
    tls.name = name


def exchange(sock):
    """One marker; what the backend says it saw. b"" if it ended."""
    sock.sendall(MARKER)
    line = b""
    while not line.endswith(b"\n"):
        piece = sock.recv(4096)
        if not piece:
            return ""
        line += piece
    return line.decode().strip()


class Load:
    """RATE connections a second to some addresses in turn, each with one exchange. `with Load(...) as load:`"""

    def __init__(self, world, *addresses):
        self.addresses = addresses
        self._world = world
        self._changed = threading.Condition()
        self._attempts = []
        self._stop = threading.Event()
        self._pool = ThreadPoolExecutor(32)
        self._pacer = threading.Thread(target=self._pace, daemon=True)

    def _pace(self):
        due = time.monotonic()
        for address in itertools.cycle(self.addresses):
            if self._stop.wait(max(0, due - time.monotonic())):
                break
            self._pool.submit(self._attempt, address)
            due += 1 / RATE

    def _attempt(self, address):
        began = time.monotonic()
        outcome = self._outcome(address)
        with self._changed:
            self._attempts.append(Attempt(address, began, time.monotonic(), outcome))
            self._changed.notify_all()

    def _outcome(self, address):
        connected = False
        try:
            with self._world.gateway.connect(*address) as sock:
                connected = True
                return exchange(sock) or "lost: end before the answer"
        except (ConnectionRefusedError, PermissionError) as error:
            return REFUSED if not connected else f"lost: {error!r}"
        except ConnectionResetError:
            return "reset"  # of connect(), too: one that was not let in is ECONNREFUSED there (tcp_reset(), SYN_SENT)
        except (ConnectionAbortedError, BrokenPipeError) as error:
            return "reset" if connected else f"lost: {error!r}"
        except OSError as error:
            return f"lost: {error!r}"

    def wait_for(self, count, within=10):
        """Until so many attempts that begin from now on have ended."""
        since = time.monotonic()
        with self._changed:
            done = self._changed.wait_for(
                lambda: sum(attempt.began >= since for attempt in self._attempts) >= count, within * SLOWNESS)
            expect_that(f"{count} attempts within {within * SLOWNESS} s", done, f"{self._attempts[-3:]}")

    def wait_for_outcome(self, outcome, since):
        """At every address."""
        def seen():
            return {attempt.address for attempt in self._attempts
                    if attempt.ended >= since and attempt.outcome == outcome} == set(self.addresses)
        with self._changed:
            done = self._changed.wait_for(seen, SWITCH_WITHIN)
            expect_that(f"connections with {outcome!r} within {SWITCH_WITHIN} s", done,
                        Counter(attempt.outcome for attempt in self._attempts if attempt.began >= since))

    def attempts(self):
        with self._changed:
            return sorted(self._attempts, key=lambda attempt: attempt.began)

    def __enter__(self):
        self._pacer.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        self._pacer.join()
        self._pool.shutdown()


class Change:
    """
    One change: written under load, and every attempt from then on judged, by its address: those that began after the first one with the
    new outcome had ended have the new one, too; those before have either.
    """

    def __init__(self, load, old, new):
        self._load, self._old, self._new = load, old, new
        self.written = None

    def apply(self, write):
        self.written = time.monotonic()
        write()
        if self._new != self._old:
            self._load.wait_for_outcome(self._new, self.written)
        self._load.wait_for(int(RATE / 2))
        for address in self._load.addresses:
            self._judge([attempt for attempt in self._load.attempts()
                         if attempt.address == address and attempt.ended >= self.written])

    def _judge(self, attempts):
        switched = min(attempt.ended for attempt in attempts if attempt.outcome == self._new)
        between = {self._old, self._new}
        # What was let in before may be ended by the change itself: refused from now on, or plain until now.
        if self._new == REFUSED or self._old == PLAIN:
            between.add("reset")
        wrong = [attempt for attempt in attempts
                 if attempt.outcome not in ({self._new} if attempt.began > switched else between)]
        expect(f"attempts that follow neither {self._old!r} nor then {self._new!r}", wrong, [])


class LoadWorld(World):
    def _build(self):
        super()._build()
        self.other = Authority(self.directory / "other-certificates", "other-ca")
        self.leaf = self.authority.leaf("one", *SANS)
        self.other_leaf = self.other.leaf("other", *SANS)
        self._number = 150
        self.start_agent()


class Scene:
    """A Service with a policy, its speaker, the load on it, and eyes on the wire."""

    def __init__(self, world, name, stack):
        self.world = world
        world._number += 1
        self.service = Service(name, world._number, target=PORT + world._number, hostname="one.example")
        self.speaker = Speaker(world, self.service.target, world.leaf, "demo-ca")
        world.publish(self.service)
        world.agent.until_policy(name)
        self.wire = stack.enter_context(world.capture(MARKER))
        self.load = stack.enter_context(Load(world, (self.service.vip4, self.service.port),
                                             self.service.endpoint4, (self.service.vip6, self.service.port)))
        self.load.wait_for(int(RATE / 2))

    def connect(self):
        return self.world.gateway.connect(self.service.vip4, self.service.port)

    def live(self, seen):
        """Connections that stay, each known to work."""
        socks = [self.connect() for _ in range(LIVE)]
        for sock in socks:
            expect("what the backend saw of a connection that stays", exchange(sock), seen)
        return socks

    def change(self, old, new, write=None):
        """Write the manifests (as self.service has them now) under load; they decide every new connection when it returns."""
        change = Change(self.load, old, new)
        change.apply(write or (lambda: self.world.write_manifests(self.service)))

    def change_unseen(self, outcome):
        """A change that no new connection shows: it is in force when the agent has a new snapshot."""
        generation = self.world.agent.generation()
        written = time.monotonic()
        self.world.write_manifests(self.service)
        until(lambda: self.world.agent.generation() > generation, SWITCH_WITHIN, "a new snapshot")
        self.load.wait_for(int(RATE / 2))
        wrong = [attempt for attempt in self.load.attempts() if attempt.ended >= written and attempt.outcome != outcome]
        expect(f"attempts that are not {outcome!r}", wrong, [])

    def objects_without(self, *kinds):
        return [each for each in self.world.objects(self.service) if each["kind"] not in kinds]

    def write_without(self, *kinds):
        self.world.manifests.write(f"{self.service.name}.yaml", *self.objects_without(*kinds))

    def expect_nothing_plain(self):
        report = self.wire.report()
        expect("markers on the wire", report.markers, 0)
        expect("streams that are not TLS", report.sent_not_tls(self.service.target), [])


@contextmanager
def scene(world, name):
    with ExitStack() as stack:
        made = Scene(world, name, stack)
        yield made
        attempts = Counter(attempt.outcome for attempt in made.load.attempts())
        expect("attempts that were lost", [outcome for outcome in attempts if outcome.startswith("lost")], [])
        for outcome, count in attempts.items():
            if outcome not in (REFUSED, "reset"):
                expect_that(f"at least {count} answers of the backend with {outcome!r}",
                            made.speaker.answers[outcome] >= count, made.speaker.answers)


def expect_alive(socks, seen):
    for sock in socks:
        expect("what the backend saw of a connection from before", exchange(sock), seen)


def expect_reset(socks):
    """Every connection ends with a reset, and soon."""
    deadline = time.monotonic() + RESET_WITHIN
    for sock in socks:
        sock.settimeout(max(0.01, deadline - time.monotonic()))
        try:
            end = sock.recv(100)
        except (ConnectionResetError, ConnectionAbortedError):
            continue
        except TimeoutError:
            end = f"nothing for {RESET_WITHIN} s"
        expect("the end of a connection from before", end, "a reset")


ONE, TWO = "TLSv1.3 one.example demo-ca", "TLSv1.3 two.example demo-ca"
OTHER = "TLSv1.3 one.example other-ca"


@case("hostname: new connections have the new SNI; the certificate has both names, so those from before live on")
def hostname(world):
    with scene(world, "load-hostname") as act:
        live = act.live(ONE)
        act.service.hostname = "two.example"
        act.change(ONE, TWO)
        expect_alive(live, ONE)
        act.expect_nothing_plain()


@case("hostname that the backend's certificate does not have: refused, and connections from before are reset; and back")
def wrong_hostname(world):
    with scene(world, "load-wrong-hostname") as act:
        live = act.live(ONE)
        act.service.hostname = "three.example"
        act.change(ONE, REFUSED)
        expect_reset(live)
        expect("reason", world.agent.failures()[0]["reason"], "identity_mismatch")
        act.service.hostname = "one.example"
        act.change(REFUSED, ONE)
        act.expect_nothing_plain()


@case("CA rotation: old, both, backend's new leaf, new: nothing is lost; chains of the old CA are reset at the end only")
def rotation(world):
    with scene(world, "load-rotation") as act:
        old = act.live(ONE)
        act.service.authority = Both(world.authority, world.other)
        act.change_unseen(ONE)
        expect_alive(old, ONE)
        act.change(ONE, OTHER, lambda: act.speaker.show(world.other_leaf, "other-ca"))
        new = act.live(OTHER)
        act.service.authority = world.other
        act.change_unseen(OTHER)
        expect_reset(old)
        expect_alive(new, OTHER)
        act.expect_nothing_plain()


@case("CA that did not sign the backend: refused, and connections from before are reset; and back")
def wrong_authority(world):
    with scene(world, "load-wrong-ca") as act:
        live = act.live(ONE)
        act.service.authority = world.other
        act.change(ONE, REFUSED)
        expect_reset(live)
        expect("reason", world.agent.failures()[0]["reason"], "certificate_untrusted")
        act.service.authority = world.authority
        act.change(REFUSED, ONE)
        act.expect_nothing_plain()


@case("subjectAltNames: one that the certificate has: all live on; one that it has not: refused and reset; and back")
def alternative_names(world):
    with scene(world, "load-sans") as act:
        live = act.live(ONE)
        act.service.sans = ("two.example",)
        act.change_unseen(ONE)
        expect_alive(live, ONE)
        act.service.sans = ("three.example",)
        act.change(ONE, REFUSED)
        expect_reset(live)
        act.service.sans = ()
        act.change(REFUSED, ONE)
        act.expect_nothing_plain()


@case("an option: new connections have it, those from before live on as they are")
def option(world):
    with scene(world, "load-option") as act:
        live = act.live(ONE)
        act.service.options = {"postern.dev/max-tls-version": "1.2"}
        act.change(ONE, ONE.replace("1.3", "1.2"))
        expect_alive(live, ONE)
        act.expect_nothing_plain()


@case("deleted: new connections are plain, those from before live on under TLS; re-created: TLS, plain ones are destroyed")
def deleted(world):
    with scene(world, "load-deleted") as act:
        covered = act.live(ONE)
        act.expect_nothing_plain()
        act.change(ONE, PLAIN, lambda: act.write_without("BackendTLSPolicy"))
        expect_alive(covered, ONE)
        plain = act.live(PLAIN)
        act.change(PLAIN, ONE)
        expect_reset(plain)
        expect_alive(covered, ONE)
        with world.capture(MARKER) as wire:
            act.load.wait_for(int(RATE / 2))
            expect("markers on the wire once it is there again", wire.report().markers, 0)


@case("invalid (its CA is gone): refused, never plain; connections from before are reset; mended: TLS again")
def invalid(world):
    with scene(world, "load-invalid") as act:
        live = act.live(ONE)
        act.change(ONE, REFUSED, lambda: act.write_without("ConfigMap"))
        expect_reset(live)
        act.change(REFUSED, ONE)
        act.expect_nothing_plain()


@case("an older policy with other settings appears and goes: each time new connections follow whoever wins")
def precedence(world):
    with scene(world, "load-precedence") as act:
        live = act.live(ONE)
        older = manifests.backend_tls_policy("a-older", act.service.name, "two.example", f"{act.service.name}-ca")
        older["metadata"]["creationTimestamp"] = "2020-01-01T00:00:00Z"
        act.change(ONE, TWO, lambda: world.manifests.write("a-older.yaml", older))
        act.change(TWO, ONE, lambda: world.manifests.remove("a-older.yaml"))
        expect_alive(live, ONE)
        act.expect_nothing_plain()


class Both:
    """The certificates of two authorities, as one ConfigMap holds them during a rotation."""

    def __init__(self, *authorities):
        self.pem = "".join(authority.pem for authority in authorities)


if __name__ == "__main__":
    main(LoadWorld)
