#!/usr/bin/env -S python3 -B
"""Boots the guests of cases.py side by side, as many as this machine has room for, and says what passed and what it took.

    tests/guest/run.py [PATTERN...]     the cases whose name contains one of the patterns; all without any
    tests/guest/run.py --list           their names

With TARGET=aarch64-unknown-linux-musl in the environment they are guests of that architecture.
"""

import concurrent.futures
import os
import re
import shutil
import sys
import time
import traceback
from pathlib import Path
from typing import NamedTuple

import images
from cases import Case
from guests import SYSTEMS
from machine import MACHINE
from suspended import CASES
from vm import USED

# How often it is looked whether there is room for another guest, in seconds.
MOMENT = 0.5
# What has to be free for one more: this much of a processor, and this many MiB of memory.
PROCESSOR, MEMORY = 0.3, 1500


class Result(NamedTuple):
    case: Case
    passed: bool
    processor: float  # what its guests took, in seconds


class Queue(NamedTuple):
    """Cases that are to be started, and how many of them run at a time."""

    cases: list
    least: int  # in any case
    most: int  # where there is room
    started: list


def run(case):
    """Runs one case, whose logs stay if it fails."""
    directory = images.fresh(images.WORK / "cases" / case.name)
    start, USED.seconds = time.monotonic(), 0
    try:
        case.run(directory)
    except Exception as error:  # whatever went wrong, the other cases go on
        report = traceback.format_exc()
        (directory / "error.txt").write_text(report)
        for disk in (*directory.glob("disk*"), directory / "initramfs"):
            disk.unlink(missing_ok=True)
        reason = str(error) or report.splitlines()[-2].strip()
        print(f"FAILED {case.name} ({time.monotonic() - start:.0f} s): {reason}\n       logs: {directory}", flush=True)
        return Result(case, False, USED.seconds)
    shutil.rmtree(directory)
    print(f"ok     {case.name} ({time.monotonic() - start:.0f} s, {USED.seconds:.0f} s of a processor)", flush=True)
    return Result(case, True, USED.seconds)


def run_all(cases):
    """Runs the cases; what waits longest is started as early as there is room for it, and the rest is done meanwhile."""
    queues = [
        Queue(sorted((case for case in cases if case.waits), key=lambda case: -case.waits), 3, 9, []),
        Queue([case for case in cases if not case.waits], 2, 2 + os.cpu_count(), []),
    ]
    with concurrent.futures.ThreadPoolExecutor(sum(queue.most for queue in queues)) as threads:
        while any(queue.cases for queue in queues):
            room = has_room()
            for queue in queues:
                running = sum(not case.done() for case in queue.started)
                if queue.cases and (running < queue.least or room and running < queue.most):
                    queue.started.append(threads.submit(run, queue.cases.pop(0)))
                    room = False  # until it is seen what that one takes
        return [case.result() for queue in queues for case in queue.started]


def has_room():
    """Whether another guest would slow down neither those that run nor anything else. Looks for a moment."""
    before = idle()
    time.sleep(MOMENT)
    (available,) = re.findall(r"^MemAvailable: *(\d+) kB", Path("/proc/meminfo").read_text(), re.MULTILINE)
    return idle() - before > PROCESSOR * MOMENT and int(available) > MEMORY * 1024


def idle():
    """For how long this machine's processors have been idle, all added up, in seconds."""
    return float(Path("/proc/uptime").read_text().split()[1])


def main(patterns):
    possible = [case for case in CASES if not MACHINE.roots or SYSTEMS[case.system].root in MACHINE.roots]
    chosen = [case for case in possible if not patterns or any(pattern in case.name for pattern in patterns)]
    if patterns == ["--list"]:
        print("\n".join(case.name for case in possible))
        return 0
    if not chosen:
        print(f"no case has one of these in its name: {' '.join(patterns)}", file=sys.stderr)
        return 2
    roots = sorted({SYSTEMS[case.system].root for case in chosen})
    images.prepare(roots)
    start = time.monotonic()
    results = run_all(chosen)
    for root in roots:
        took = [result.processor for result in results if SYSTEMS[result.case.system].root == root]
        print(f"guest: {len(took)} cases with the root disk {root} took {sum(took):.0f} s of a processor")
    failed = sum(not result.passed for result in results)
    print(f"{len(results) - failed} passed, {failed} failed, in {time.monotonic() - start:.0f} s")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
