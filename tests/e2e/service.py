#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only
"""
What the agent tells a service manager (sd_notify): that it is ready once the hooks are on, that it is the main process,
also after it took over from another one, and that its control thread is alive. The socket is the test's own.
"""

import os
import signal
import socket
import struct
import sys

sys.path[:0] = [os.path.dirname(os.path.dirname(os.path.abspath(__file__)))]

from lib.case import SLOWNESS, case, expect, expect_that, main
from lib.stage import Stage

WATCHDOG_USEC = 200_000 * SLOWNESS
CREDENTIALS = struct.Struct("iII")


class ServiceStage(Stage):
    def _build(self):
        self.manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.manager.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        self.manager.settimeout(90 * SLOWNESS)
        name = f"@postern-notify-{os.getpid()}"
        self.manager.bind("\0" + name[1:])
        self.agent_environment = {**os.environ, "NOTIFY_SOCKET": name, "WATCHDOG_USEC": str(WATCHDOG_USEC)}
        super()._build()

    def next_message(self):
        """(who, what) of the next message."""
        text, ancillary, _, _ = self.manager.recvmsg(4096, socket.CMSG_SPACE(CREDENTIALS.size))
        pid, _, _ = CREDENTIALS.unpack(ancillary[0][2])
        return pid, text.decode()

    def until_message(self, agent, wanted, instead=()):
        """Skip what others say, if it is one of `instead`."""
        while True:
            pid, text = self.next_message()
            if (pid, text) == (agent.pid, wanted):
                return
            expect_that("no message but " + " or ".join(instead), text in instead, (pid, text))


@case("READY=1 and MAINPID when the hooks are on, then WATCHDOG=1 again and again, until the agent is stopped")
def ready_and_alive(stage):
    expect("the first message", stage.next_message(), (stage.agent.pid, f"MAINPID={stage.agent.pid}\nREADY=1"))
    for _ in range(3):
        expect("the next one", stage.next_message(), (stage.agent.pid, "WATCHDOG=1"))
    stage.agent.process.signal(signal.SIGSTOP)
    try:
        stage.manager.settimeout(10 * WATCHDOG_USEC / 1e6)
        silent = False
        while not silent:  # what was under way before it stopped
            try:
                stage.next_message()
            except TimeoutError:
                silent = True
    finally:
        stage.agent.process.signal(signal.SIGCONT)
        stage.manager.settimeout(90 * SLOWNESS)
    stage.until_message(stage.agent, "WATCHDOG=1")


@case("an upgrade: the new agent becomes the main process, and the old one, which drains, says nothing any more")
def taken_over(stage):
    former = stage.agent
    held = stage.gateway.connect(stage.echo.vip4, 80)
    new = stage.start_agent()
    stage.until_message(new, f"MAINPID={new.pid}\nREADY=1", instead=("WATCHDOG=1",))
    former.process.wait_for("handed over", within=10 * SLOWNESS)
    for _ in range(5):
        stage.until_message(new, "WATCHDOG=1", instead=("WATCHDOG=1",))
    for _ in range(5):
        expect("who speaks now", stage.next_message(), (new.pid, "WATCHDOG=1"))
    held.close()
    expect("how the old agent ended", former.process.wait(20 * SLOWNESS), 0)


if __name__ == "__main__":
    main(ServiceStage)
