#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only
"""
Two backends of which one is bad, POSTs, real gateways that repeat no request: with postern every POST is answered 200,
because a connect that was refused costs nothing. The same beside an accept-first relay shows what it is about.
"""

import os
import re
import sys
import time

sys.path[:0] = [os.path.dirname(os.path.dirname(os.path.abspath(__file__)))]

from lib import envoy, haproxy, http, nginx
from lib.backend import Backend
from lib.case import Skip, case, expect, expect_that, main, skip
from lib.certificates import Authority
from lib.paths import PYTHON
from lib.process import Process
from lib.stage import Stage
from lib.tls_peer import server_context
from lib.topology import GATEWAY4, backend4
from lib.world import Service

GOOD, BAD = 2, 3  # numbers of the backend's addresses
PORTS = {"refusing": 8801, "silent": 8802, "wrong-certificate": 8803}
POSTS = 6
# A good backend must be quicker than these on a busy machine, too; half of the POSTs to a silent one wait for them.
CONNECT_SECONDS, READ_TIMEOUT = 2, "3s"
ACCEPT_FIRST = os.path.join(os.path.dirname(os.path.abspath(__file__)), "accept_first.py")


class PairStage(Stage):
    def _build(self):
        super()._build()
        for index, (kind, port) in enumerate(PORTS.items()):
            self.publish(Service(kind, 80 + index, target=port, endpoints=(BAD, GOOD), hostname="echo.example"))
            self.agent.until_policy(kind)
        self.serve("good", [(backend4(GOOD), port) for port in PORTS.values()], self.leaf)
        self.network.silence(backend4(BAD), PORTS["silent"])
        other = Authority(self.directory / "other-certificates", "other-ca")
        self.wrong = self.close_at_end(Backend(self.backend, backend4(BAD), PORTS["wrong-certificate"],
                                               server_context(other.leaf("wrong", "DNS:echo.example"))))
        through_postern = {kind: [(backend4(BAD), port), (backend4(GOOD), port)] for kind, port in PORTS.items()}
        # The relay's pairs: 127.0.0.1:9001 is the bad backend of the first kind, :9002 its good one, and so on.
        pairs, through_relay = [], {}
        for index, (kind, port) in enumerate(PORTS.items()):
            bad, good = 9001 + 2 * index, 9002 + 2 * index
            pairs += [f"127.0.0.1:{bad}={backend4(BAD)}:{port}", f"127.0.0.1:{good}={backend4(GOOD)}:{port}"]
            through_relay[kind] = [("127.0.0.1", bad), ("127.0.0.1", good)]
        relay = Process([PYTHON, ACCEPT_FIRST, self.authority.certificate, "echo.example", *pairs],
                        self.network["gateway"], self.cgroups.make("relay"))
        self._stack.callback(relay.stop)
        relay.wait_for("^listening$")
        self.nginx = []
        self.fronts = {}  # (gateway, what is behind it) -> its port
        self.missing = {}  # gateway -> why it is not there
        for index, (behind, routes) in enumerate((("postern", through_postern), ("accept-first", through_relay))):
            self.start("nginx", behind, 8101 + index, nginx.gateway, routes, f"{CONNECT_SECONDS}s")
            self.start("HAProxy", behind, 8201 + index, haproxy.HAProxy, routes, f"{CONNECT_SECONDS}s")
            self.start("Envoy", behind, 8301 + index, envoy.Envoy, routes, f"{CONNECT_SECONDS}s")

    def start(self, gateway, behind, port, make, routes, connect_timeout):
        try:
            made = make(self.new_directory("gateway"), self.network["gateway"], self.gateway_cgroup, GATEWAY4, port,
                        routes, connect_timeout=connect_timeout, read_timeout=READ_TIMEOUT)
        except Skip as reason:
            self.missing[gateway] = str(reason)
            return
        self.close_at_end(made)
        self.fronts[gateway, behind] = port
        if gateway == "nginx":
            self.nginx.append(made)

    def posts(self, gateway, behind, kind):
        """The statuses of some POSTs, and the longest time that one took."""
        statuses, longest = [], 0.0
        for index in range(POSTS):
            started = time.monotonic()
            try:
                status = http.request(self.client, GATEWAY4, self.fronts[gateway, behind], f"/{kind}/post", "POST",
                                      b"order %d" % index).status
            except ConnectionError:
                status = "no answer"  # HAProxy's way when a server resets before it has the whole request
            longest = max(longest, time.monotonic() - started)
            statuses.append(status)
        return statuses, longest


def declare(gateway, kind):
    @case(f"{gateway}, one backend of two {kind}: all POSTs 200 with postern; accept-first loses some", limit=180)
    def table(stage):
        if gateway in stage.missing:
            skip(stage.missing[gateway])
        statuses, longest = stage.posts(gateway, "postern", kind)
        relayed, relayed_longest = stage.posts(gateway, "accept-first", kind)
        print(f"     {gateway:8} {kind:18} postern {statuses} {longest:.2f} s   "
              f"accept-first {relayed} {relayed_longest:.2f} s")
        expect("postern", statuses, [200] * POSTS)
        expect_that("some POST lost behind accept-first, else this compares nothing",
                    any(status != 200 for status in relayed), relayed)


for each_gateway in ("nginx", "HAProxy", "Envoy"):
    for each_kind in PORTS:
        declare(each_gateway, each_kind)


@case("nginx's own log names the real upstream and the real cause")
def nginx_log(stage):
    log = stage.nginx[0].process  # of the one before postern
    mark = log.mark()
    stage.posts("nginx", "postern", "refusing")
    address = re.escape(f"{backend4(BAD)}:{PORTS['refusing']}")
    log.wait_for(rf"\[error\].*Connection refused.* while connecting to upstream.*{address}", since=mark)


if __name__ == "__main__":
    main(PairStage)
