# SPDX-License-Identifier: GPL-2.0-only
"""
The runner: a test file declares its cases and calls main().

    @case("a request through the ClusterIP is answered")
    def cluster_ip(world):
        expect("status", answer.status, 200)

    main(World)

A line for each case: `ok NAME (seconds)`, `FAIL NAME: expected ... seen ...` or `skip NAME: reason`; last the line
`FILE: N passed, N failed, N skipped`. After the last case the kernel's log of this run is searched for trouble.
"""

import argparse
import os
import re
import signal
import sys
import time
import traceback
from pathlib import Path

KERNEL_TROUBLE = re.compile(r"WARNING:|BUG:|kernel BUG at|Oops|general protection|Call Trace|rcu:.*stall|Kernel panic")
# One emulated CPU is many times slower than a machine: limits are there to end a hang, not to judge speed.
SLOWNESS = 6 if os.environ.get("POSTERN_GUEST") else 1
VERBOSE_TRACE = bool(os.environ.get("POSTERN_TRACE"))

_cases = []


class Failure(Exception):
    pass


class Skip(Exception):
    pass


class TooLong(Exception):
    pass


def case(name, limit=60):
    """Declares a case. `limit`: seconds after which it has failed (longer in a guest)."""
    def declare(function):
        _cases.append((name, function, limit * SLOWNESS))
        return function
    return declare


def times(count):
    """How often to repeat what one turn shows as well: a fifth of it in a guest."""
    return max(1, count // 5) if os.environ.get("POSTERN_GUEST") else count


def skip(reason):
    raise Skip(reason)


def expect(what, seen, wanted):
    if seen != wanted:
        raise Failure(f"{what}: expected {_short(wanted)}, seen {_short(seen)}")


def expect_that(what, holds, seen):
    """For all that is not equality: `what` says what must hold."""
    if not holds:
        raise Failure(f"expected {what}, seen {_short(seen)}")


def expect_error(what, action, *kinds):
    """The error that action() must end with; it is returned."""
    try:
        result = action()
    except kinds as error:
        return error
    except Exception as error:  # pylint: disable=broad-except
        raise Failure(f"{what}: expected {_names(kinds)}, seen {error!r}") from error
    raise Failure(f"{what}: expected {_names(kinds)}, seen success: {_short(result)}")


def main(world):
    """Run this file's cases in a world (a context manager, made once), print, and exit."""
    suite = Path(sys.argv[0]).stem
    parser = argparse.ArgumentParser(description="Run the cases of this file whose name contains one of the words.")
    parser.add_argument("words", nargs="*")
    parser.add_argument("--list", action="store_true", help="name the cases and stop")
    arguments = parser.parse_args()
    chosen = [entry for entry in _cases if not arguments.words or any(word in entry[0] for word in arguments.words)]
    if arguments.list:
        print("\n".join(name for name, _, _ in chosen))
        sys.exit(0)

    if not chosen:
        _print(f"{suite}: 0 passed, 0 failed, 0 skipped")
        sys.exit(0)

    signal.signal(signal.SIGTERM, _interrupted)
    signal.signal(signal.SIGALRM, _too_long)
    counts = {"passed": 0, "failed": 0, "skipped": 0}
    kernel_log = _KernelLog()
    try:
        with world() as built:
            for name, function, limit in chosen:
                counts[_run_case(name, function, built, limit)] += 1
    except Skip as reason:
        for name, _, _ in chosen:
            _print(f"skip {name}: {reason}")
        counts["skipped"] = len(chosen)
    except KeyboardInterrupt:
        _print(f"FAIL {suite}: interrupted")
        counts["failed"] += 1
    except Exception as error:  # pylint: disable=broad-except
        traceback.print_exc()
        _print(f"FAIL {suite}: expected the surroundings to come up and go away, seen {_one_line(error)}")
        counts["failed"] += 1
    trouble = kernel_log.trouble()
    if trouble:
        _print(f"FAIL {suite}: expected a quiet kernel log, seen {_short(' | '.join(trouble))}")
        counts["failed"] += 1
    _print(f"{suite}: " + ", ".join(f"{count} {word}" for word, count in counts.items()))
    sys.exit(1 if counts["failed"] else 0)


def _run_case(name, function, world, limit):
    started = time.monotonic()
    signal.alarm(limit)
    try:
        function(world)
    except Skip as reason:
        _print(f"skip {name}: {reason}")
        return "skipped"
    except KeyboardInterrupt:
        raise
    except Exception as error:  # pylint: disable=broad-except
        signal.alarm(0)
        if not isinstance(error, Failure) or VERBOSE_TRACE:
            traceback.print_exc(file=sys.stdout)
        _print(f"FAIL {name}: {_one_line(error)}")
        explain = getattr(world, "explain", None)
        if explain:
            for line in explain():
                _print(f"     {line}")
        return "failed"
    finally:
        signal.alarm(0)
    _print(f"ok {name} ({time.monotonic() - started:.2f} s)")
    return "passed"


class _KernelLog:
    """What the kernel has said since this object was made."""

    def __init__(self):
        try:
            self._log = os.open("/dev/kmsg", os.O_RDONLY | os.O_NONBLOCK)
            os.lseek(self._log, 0, os.SEEK_END)
        except OSError:
            self._log = None

    def trouble(self):
        found = []
        while self._log is not None:
            try:
                record = os.read(self._log, 8192).decode(errors="replace")
            except BlockingIOError:
                break
            except BrokenPipeError:
                continue  # records were overwritten; the next read goes on with the oldest one left
            text = record.partition(";")[2].splitlines()
            if text and KERNEL_TROUBLE.search(text[0]):
                found.append(text[0])
        return found


def _print(text):
    print(text, flush=True)


def _short(value, most=600):
    text = value if isinstance(value, str) else repr(value)
    return text if len(text) <= most else text[:most] + f"... ({len(text)} characters)"


def _one_line(error):
    text = str(error) if isinstance(error, Failure) else f"{type(error).__name__}: {error}"
    return " ".join(_short(text, 1500).split())


def _names(kinds):
    return " or ".join(kind.__name__ for kind in kinds)


def _too_long(*_):
    raise TooLong("expected the case to end within its limit, seen it still running")


def _interrupted(*_):
    raise KeyboardInterrupt
