#!/usr/bin/env -S python3 -B
"""Boots the guests of cases.py, two at a time and beside them one that mostly waits, and says what passed.

    tests/guest/run.py [PATTERN...]     the cases whose name contains one of the patterns; all without any
    tests/guest/run.py --list           their names

With TARGET=aarch64-unknown-linux-musl in the environment they are guests of that architecture.
"""

import concurrent.futures
import shutil
import sys
import time
import traceback

import images
from guests import SYSTEMS
from machine import MACHINE
from several import CASES

AT_ONCE, WAITING = 2, 3


def run(case):
    """Runs one case. Returns whether it passed; if not, its logs stay."""
    directory = images.fresh(images.WORK / "cases" / case.name)
    start = time.monotonic()
    try:
        case.run(directory)
    except Exception as error:  # whatever went wrong, the other cases go on
        report = traceback.format_exc()
        (directory / "error.txt").write_text(report)
        for disk in (*directory.glob("disk*"), directory / "initramfs"):
            disk.unlink(missing_ok=True)
        reason = str(error) or report.splitlines()[-2].strip()
        print(f"FAILED {case.name} ({time.monotonic() - start:.0f} s): {reason}\n       logs: {directory}", flush=True)
        return False
    shutil.rmtree(directory)
    print(f"ok     {case.name} ({time.monotonic() - start:.0f} s)", flush=True)
    return True


def main(patterns):
    possible = [case for case in CASES if not MACHINE.roots or SYSTEMS[case.system].root in MACHINE.roots]
    chosen = [case for case in possible if not patterns or any(pattern in case.name for pattern in patterns)]
    if patterns == ["--list"]:
        print("\n".join(case.name for case in possible))
        return 0
    if not chosen:
        print(f"no case has one of these in its name: {' '.join(patterns)}", file=sys.stderr)
        return 2
    images.prepare({SYSTEMS[case.system].root for case in chosen})
    start = time.monotonic()
    with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as busy, concurrent.futures.ThreadPoolExecutor(WAITING) as waiting:
        done = [(waiting if case.waits else busy).submit(run, case) for case in chosen]
        try:
            passed = [case.result() for case in done]
        except KeyboardInterrupt:  # the guests that run get it as well
            for case in done:
                case.cancel()
            raise
    print(f"{sum(passed)} passed, {len(passed) - sum(passed)} failed, in {time.monotonic() - start:.0f} s")
    return 0 if all(passed) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
