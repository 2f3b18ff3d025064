#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only
"""
Thousands of connections at once, in a process of their own that is placed like a gateway or a backend. Each is one
loop that takes commands on its standard input, one line of JSON each, and answers with one.

    crowd = Crowd(netns, cgroup)                  the gateway's end: connect(), an exchange, close()
    hall = Hall(netns, cgroup, addresses, leaf)   the backend's end: accepts at once, speaks TLS only when it is told to

A crowd may be many gateways: it moves into another cgroup and network namespace before it makes the next sockets, and what
it has made stays where it was made.

An exchange is MARKER and a number, sent when connect() said success, and the same bytes back. So a connect() that
succeeds without a verified backend behind it is seen as what it is: a connection that does not answer.
"""

import ctypes
import errno
import json
import os
import select
import selectors
import socket
import ssl
import sys
import time

if __name__ == "__main__":
    sys.path[:0] = [os.path.dirname(os.path.dirname(os.path.abspath(__file__)))]

MARKER = b"postern-crowd-marker-71c2"
MESSAGE = len(MARKER) + 8
BACKLOG = 16384
CLONE_NEWNET = 0x40000000


class Speaker:
    """The test's end of such a process."""

    def __init__(self, netns, cgroup, *words):
        from lib.paths import PYTHON
        from lib.process import Process
        self.process = Process([PYTHON, __file__, *words], netns, cgroup)
        self.process.wait_for("^ready$")

    def say(self, **command):
        """Without waiting for the answer: answer() brings it."""
        self._mark = self.process.mark()
        self.process.say(json.dumps(command))

    def answer(self, within=120):
        return json.loads(self.process.wait_for("^{", since=self._mark, within=within))

    def ask(self, within=120, **command):
        self.say(**command)
        return self.answer(within)

    def close(self):
        self.process.kill()


class Crowd(Speaker):
    def __init__(self, netns, cgroup):
        super().__init__(netns, cgroup, "crowd")

    def start(self, targets, count, patience=0.0, place=None):
        """
        count connects to [(address, port)...] in turn; each gives up after `patience` s (0: never). place: (path of a
        network namespace, path of a cgroup), where the crowd is from then on.
        """
        return self.ask(do="start", targets=targets, count=count, patience=patience, place=place and [*map(str, place)])

    def say_wait(self, within, exchange=True, keep=False):
        self.say(do="wait", within=within, exchange=exchange, keep=keep)

    def wait(self, within, exchange=True, keep=False):
        """
        Until every connect has come to its end, and every one that succeeded has had its exchange (and, unless `keep`,
        is closed). How often each outcome was: "ok", an errno's name, "gave_up", "pending", "wrong" (an exchange that
        was not answered right).
        """
        self.say_wait(within, exchange, keep)
        return self.answer(within + 60)

    def drop(self):
        """Close all, connected or not."""
        return self.ask(do="drop")


class Hall(Speaker):
    def __init__(self, netns, cgroup, addresses, leaf):
        super().__init__(netns, cgroup, "hall", str(leaf.certificate), str(leaf.key), json.dumps(addresses))

    def speak(self, speaks):
        """Handshakes are answered from now on, or not. What was kept waiting is served at once."""
        return self.ask(do="speak", speaks=speaks)

    def count(self):
        """accepted (in all), open (now), verified (handshakes that ended well, in all), exchanges."""
        return self.ask(do="count")

    def peers(self):
        """How many exchanges there were with each address, in all."""
        return self.ask(do="peers")


def _finish(answer):
    print(json.dumps(answer), flush=True)


# ---- the agent ----

class Books:
    """What the agent counted since the books were opened; every connect must be in one column."""

    def __init__(self, agent):
        self.agent, self.before = agent, agent.status()

    def since(self, *path):
        now, before = self.agent.status(), self.before
        for word in path:
            now, before = now.get(word, 0), before.get(word, 0)
        return now - before

    def failures(self):
        now, before = self.agent.status()["failures"], self.before["failures"]
        changed = {name: count - before.get(name, 0) for name, count in now.items()}
        return {name: count for name, count in changed.items() if count and not name.startswith("ktls_")}


# ---- the gateway's end ----

def outcomes(answer):
    """How often each outcome was, of an answer that says how long it took, too."""
    return {name: count for name, count in answer.items() if name != "seconds"}


def until_quiet(agent, hall, within):
    """No attempt, no connection, no B; what the backend still sees of them is gone soon after."""
    from lib.waiting import until  # not for the crowd's own process

    def left():
        workers = agent.status()["workers"]
        return (f"no attempt and no connection left, of {workers['attempts_live']} and {workers['connections_live']}; "
                f"the backend has {hall.count()}")
    until(lambda: agent.under_way() == 0 and hall.count()["open"] == 0, within, left, every=0.1)


def move(netns, cgroup):
    """Sockets that this process makes from now on belong there. It has one thread: setns() moves no other."""
    with open(f"{cgroup}/cgroup.procs", "w", encoding="ascii") as processes:
        processes.write("0")  # the writer itself
    with open(netns, "rb") as namespace:
        if ctypes.CDLL(None, use_errno=True).setns(namespace.fileno(), CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), f"setns {netns}")


class _CrowdLoop:
    def __init__(self):
        self.selector = selectors.EpollSelector()
        self.begun = {}  # socket -> when it gives up, or None; in the order of their connects
        self.talking = {}  # socket -> [bytes that must come, bytes that came]
        self.kept = []
        self.seen = {}
        self.number = 0
        self.started = 0.0

    def note(self, outcome):
        self.seen[outcome] = self.seen.get(outcome, 0) + 1

    def start(self, targets, count, patience, place=None):
        if place:
            move(*place)
        if not self.begun and not self.talking:
            self.seen, self.started = {}, time.monotonic()
        failed = {}
        for index in range(count):
            address, port = targets[index % len(targets)]
            sock = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
            sock.setblocking(False)
            error = sock.connect_ex((address, port))
            if error not in (0, errno.EINPROGRESS):
                name = errno.errorcode[error]
                self.note(name)
                failed[name] = failed.get(name, 0) + 1
                sock.close()
                continue
            self.begun[sock] = time.monotonic() + patience if patience else None
            self.selector.register(sock, selectors.EVENT_WRITE)
        _finish({"started": count - sum(failed.values()), **failed})

    def connected(self, sock, exchange, keep):
        del self.begun[sock]
        error = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if error:
            self.note(errno.errorcode[error])
            self.forget(sock)
        elif exchange:
            self.number += 1
            message = MARKER + b"%08d" % self.number
            self.talking[sock] = [message, b""]
            self.selector.modify(sock, selectors.EVENT_READ)
            try:
                sock.send(message)
            except OSError:
                self.said(sock, "wrong", False)
        else:
            self.note("ok")
            self.selector.unregister(sock)
            self.keep_or_close(sock, keep)

    def keep_or_close(self, sock, keep):
        if keep:
            self.kept.append(sock)
        else:
            sock.close()

    def forget(self, sock):
        self.selector.unregister(sock)
        sock.close()

    def said(self, sock, outcome, keep):
        del self.talking[sock]
        self.note(outcome)
        self.selector.unregister(sock)
        self.keep_or_close(sock, keep and outcome == "ok")

    def readable(self, sock, keep):
        talk = self.talking[sock]
        try:
            piece = sock.recv(4096)
        except OSError:
            piece = b""
        talk[1] += piece
        if not piece or len(talk[1]) >= len(talk[0]):
            self.said(sock, "ok" if talk[1] == talk[0] else "wrong", keep)

    def give_up(self):
        now, patience = time.monotonic(), []
        for sock, until in self.begun.items():
            if until is None or until > now:
                break
            patience.append(sock)
        for sock in patience:
            del self.begun[sock]
            self.note("gave_up")
            self.forget(sock)
        first = next(iter(self.begun.values()), None)
        return None if first is None else first - now

    def wait(self, within, exchange, keep):
        deadline = time.monotonic() + within
        while (self.begun or self.talking) and time.monotonic() < deadline:
            left = self.give_up()
            if not self.begun and not self.talking:
                break
            limit = deadline - time.monotonic()
            for key, _ in self.selector.select(max(0, limit if left is None else min(left, limit))):
                if key.fileobj in self.talking:
                    self.readable(key.fileobj, keep)
                elif key.fileobj in self.begun:
                    self.connected(key.fileobj, exchange, keep)
        answer = dict(self.seen)
        pending = len(self.begun) + len(self.talking)
        _finish({**answer, **({"pending": pending} if pending else {}),
                 "seconds": round(time.monotonic() - self.started, 3)})

    def drop(self):
        dropped = len(self.begun) + len(self.talking) + len(self.kept)
        for sock in [*self.begun, *self.talking]:
            self.forget(sock)
        for sock in self.kept:
            sock.close()
        self.begun, self.talking, self.kept = {}, {}, []
        _finish({"dropped": dropped})


def _crowd():
    loop = _CrowdLoop()
    print("ready", flush=True)
    for line in sys.stdin:
        command = json.loads(line)
        getattr(loop, command.pop("do"))(**command)


# ---- the backend's end ----

class _HallLoop:
    def __init__(self, certificate, key, addresses):
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(certificate, key)
        self.epoll = select.epoll()
        self.sockets = {}  # descriptor -> (socket, what to do when something happens to it)
        self.speaks = False
        self.silent = {}  # those that have not been answered: descriptor -> socket
        self.counts = {"accepted": 0, "open": 0, "verified": 0, "exchanges": 0}
        self.peers = {}
        for address, port in addresses:
            listener = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((address, port))
            listener.listen(BACKLOG)
            listener.setblocking(False)
            self.watch(listener, self.accept)
        self.watch(sys.stdin, self.command)

    def watch(self, sock, action, events=select.EPOLLIN):
        if sock.fileno() in self.sockets:
            self.epoll.modify(sock, events)
        else:
            self.epoll.register(sock, events)
        self.sockets[sock.fileno()] = sock, action

    def run(self):
        print("ready", flush=True)
        while True:
            # Whom an event was for: an earlier one of the same turn may close it, and accept() give its number to another.
            for descriptor, watched in [(each, self.sockets.get(each)) for each, _ in self.epoll.poll()]:
                if watched and self.sockets.get(descriptor) is watched:
                    sock, action = watched
                    action(sock)

    def command(self, stdin):
        line = stdin.readline()
        if not line:
            sys.exit(0)
        command = json.loads(line)
        if command["do"] == "speak":
            self.speaks = command["speaks"]
            for sock in list(self.silent.values()) if self.speaks else []:
                self.answer(sock)
        _finish(self.peers if command["do"] == "peers" else self.counts)

    def accept(self, listener):
        for _ in range(64):
            try:
                sock, _ = listener.accept()
            except BlockingIOError:
                return
            sock.setblocking(False)
            self.counts["accepted"] += 1
            self.counts["open"] += 1
            # The ClientHello lies there unread; only the end is listened for.
            self.silent[sock.fileno()] = sock
            self.watch(sock, self.ended, select.EPOLLRDHUP)
            if self.speaks:
                self.answer(sock)

    def ended(self, sock):
        self.silent.pop(sock.fileno(), None)
        del self.sockets[sock.fileno()]
        sock.close()
        self.counts["open"] -= 1

    def answer(self, sock):
        descriptor = sock.fileno()
        try:
            sock.getpeername()
        except OSError:
            self.ended(sock)
            return
        del self.silent[descriptor]
        tls = self.context.wrap_socket(sock, server_side=True, do_handshake_on_connect=False)  # the same descriptor
        self.watch(tls, self.handshake)

    def handshake(self, tls):
        try:
            tls.do_handshake()
        except ssl.SSLWantReadError:
            return
        except OSError:
            self.ended(tls)
            return
        self.counts["verified"] += 1
        self.watch(tls, self.echo)
        self.echo(tls)

    def echo(self, tls):
        try:
            data = tls.recv(4096)
            if data.startswith(b"GET "):
                data = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\ncrowd"
            if data:
                self.counts["exchanges"] += 1
                peer = tls.getpeername()[0]
                self.peers[peer] = self.peers.get(peer, 0) + 1
                tls.send(data)
                return
        except ssl.SSLWantReadError:
            return
        except OSError:
            pass
        self.ended(tls)


def main():
    if sys.argv[1] == "crowd":
        _crowd()
    else:
        _HallLoop(sys.argv[2], sys.argv[3], json.loads(sys.argv[4])).run()


if __name__ == "__main__":
    main()
