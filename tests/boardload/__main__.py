"""`make boardload ARGS="--minutes 5 --kill"`: many browsers and pings on the board of a real fleet.

Ends with 1 if an event or an acknowledged ping is lost, if memory or delays are above what was promised, or
if fewer pings were acknowledged than planned.
"""

import argparse
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from boardload.run import Load, Plan, run_load
from support.rig.forkserver import real_starts


def main() -> int:
    """Run a load, and print what was seen."""
    parser = argparse.ArgumentParser(prog="make boardload", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=5, help="how long (5)")
    parser.add_argument("--browsers", type=int, default=100, help="that follow (100)")
    parser.add_argument("--services", type=int, default=8, help="that go and come (8)")
    parser.add_argument("--pings", type=float, default=1000, help="a second, of jobs over HTTP (1000)")
    parser.add_argument("--kill", action="store_true", help="kill the board in the middle")
    args = parser.parse_args()
    plan = Plan(60 * args.minutes, args.browsers, args.services, args.pings, args.kill)
    with tempfile.TemporaryDirectory(prefix="boardload-") as folder, real_starts():
        load = run_load(plan, Path(folder), _say)
    return report(load, _say)


def report(load: Load, say: Callable[[str], None]) -> int:
    """Print the figures and each goal that was missed; return the exit code."""
    for line in load.describe():
        say(line)
    faults = list(load.find_faults())
    for fault in faults:
        say(f"MISSED         {fault}")
    return 1 if faults else 0


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
