# SPDX-License-Identifier: GPL-2.0-only
"""Programs: run to their end, or kept running in a network namespace and a cgroup with their output line by line."""

import fcntl
import re
import signal
import subprocess
import threading
import time

from lib.case import SLOWNESS

# A socket belongs to the cgroup that its maker was in at socket(), so the shell moves there before anything else runs.
ENTER_CGROUP = 'echo $$ >"$1/cgroup.procs" && shift && exec "$@"'
PIPE_BYTES = 1 << 20


class CommandFailed(Exception):
    pass


def run(*argv, stdin=None, check=True, within=60 * SLOWNESS, env=None):
    """Run to the end; the CompletedProcess, text in and out. A failure carries what the program said."""
    argv = [str(word) for word in argv]
    done = subprocess.run(argv, input=stdin, capture_output=True, text=True, timeout=within, env=env, errors="replace")
    if check and done.returncode != 0:
        said = (done.stderr.strip() or done.stdout.strip())[-2000:]
        raise CommandFailed(f"{' '.join(argv)}: status {done.returncode}: {said}")
    return done


def placed(argv, netns=None, cgroup=None):
    """argv, to be run in a network namespace (a name of `ip netns`) and a cgroup (a path)."""
    argv = [str(word) for word in argv]
    if netns:
        argv = ["nsenter", f"--net=/run/netns/{netns}", "--", *argv]
    if cgroup:
        argv = ["/bin/sh", "-c", ENTER_CGROUP, "sh", str(cgroup), *argv]
    return argv


def run_in(netns, *argv, **options):
    return run(*placed(argv, netns=netns), **options)


class Process:
    """
    A program that runs until it is stopped. It is killed when the thread that started it ends, so start it from the
    main thread only. Its standard output and error are kept together, in the order in which lines arrived.
    """

    def __init__(self, argv, netns=None, cgroup=None, env=None, pass_fds=()):
        self.argv = [str(word) for word in argv]
        self.lines = []
        self._changed = threading.Condition()
        self._ended = False
        self._stopped = False
        self._popen = subprocess.Popen(
            placed(["setpriv", "--pdeathsig", "KILL", "--", *self.argv], netns, cgroup),
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            env=env, pass_fds=pass_fds, start_new_session=True)
        # An agent whose log nobody reads drops lines; on a busy machine the thread below may be late.
        fcntl.fcntl(self._popen.stdout, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        self.pid = self._popen.pid  # every step towards argv is an exec, so this is the program itself
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self):
        for line in self._popen.stdout:
            if self._stopped and not line.endswith(b"\n"):
                continue  # it died in mid-write: half a line is nothing that it said
            with self._changed:
                self.lines.append(line.decode(errors="replace").rstrip("\n"))
                self._changed.notify_all()
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def say(self, line):
        self._popen.stdin.write(line.encode() + b"\n")
        self._popen.stdin.flush()

    def mark(self):
        """How many lines there are now: wait_for(since=mark) then looks at later ones only."""
        with self._changed:
            return len(self.lines)

    def wait_for(self, pattern, since=0, within=20 * SLOWNESS):
        """The first line at or after `since` that matches; an error if the program ends or the time does."""
        expression = re.compile(pattern)
        deadline = time.monotonic() + within
        with self._changed:
            position = since
            while True:
                for line in self.lines[position:]:
                    if expression.search(line):
                        return line
                position = len(self.lines)
                left = deadline - time.monotonic()
                if self._ended or left <= 0:
                    why = "it ended" if self._ended else f"{within} s passed"
                    raise CommandFailed(f"{self.argv[0]}: no line matches {pattern!r}: {why}; last lines: "
                                        + " | ".join(self.lines[-8:]))
                self._changed.wait(left)

    def wait_line(self, within):
        """Wait until one more line arrives, or the time is over: for those who poll something else beside it."""
        with self._changed:
            if not self._ended:
                self._changed.wait(within)

    def running(self):
        return self._popen.poll() is None

    def signal(self, number):
        self._popen.send_signal(number)

    def wait(self, within=20 * SLOWNESS):
        status = self._popen.wait(within)
        self._reader.join(within)
        return status

    def kill(self):
        """SIGKILL, and wait until the kernel has closed everything it had."""
        if self.running():
            self._stopped = True
            self._popen.kill()
        return self.wait()

    def stop(self, within=10 * SLOWNESS):
        """SIGTERM, then SIGKILL if that is not enough. Its exit status (negative: the signal)."""
        if self.running():
            self._stopped = True
            self._popen.send_signal(signal.SIGTERM)
            try:
                self._popen.wait(within)
            except subprocess.TimeoutExpired:
                self._popen.kill()
        return self.wait()
