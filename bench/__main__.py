"""Run `python -m bench`: all benches, or those that are named. docs/performance.md says what they measure."""

import argparse
import signal
import sys
from collections.abc import Sequence
from datetime import UTC, datetime

from bench.catalogue import BENCHES
from bench.figures import SLOWER, SLOWER_ELSEWHERE, find_pace
from bench.machine import describe_machine, find_commit
from bench.programs import ROOT
from bench.runner import check_again, load_results, missing, print_line, run_all, write_results

DOCS = ROOT / "docs"


def main() -> int:
    parser = argparse.ArgumentParser(prog="make bench", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(BENCHES)}")
    parser.add_argument(
        "--check", action="store_true", help="compare with docs/performance.json; write nothing"
    )
    parser.add_argument("--write", action="store_true", help="write also what some benches measured")
    parser.add_argument("--repeats", type=int, default=0, help="instead of those of bench/catalogue.py")
    parser.add_argument("--scale", type=float, default=1.0, help="for a try: 0.1 is a tenth of the sizes")
    args = parser.parse_args()
    if unknown := [name for name in args.names if name not in BENCHES]:
        parser.error(f"no {', '.join(unknown)}; there are {', '.join(BENCHES)}")
    if args.scale != 1.0 and (args.check or args.write):
        parser.error("ratios of another scale are not comparable, so it goes with no --check and no --write")
    repeats = {
        name: args.repeats or (bench.check_repeats if args.check else bench.repeats) or bool(args.names)
        for name, bench in BENCHES.items()
        if name in args.names or (not args.names and (bench.check_repeats if args.check else bench.repeats))
    }
    if args.check:
        return check(repeats)
    return measure(repeats, args.scale, write=args.write or (not args.names and args.scale == 1.0))


def measure(repeats: dict[str, int], scale: float, *, write: bool) -> int:
    """Run benches, and write their results beside those that are there, if those are of this machine.

    Repeats of the same commit are added to those that are there.
    """
    machine, (known_machine, results) = describe_machine(), load_results(DOCS)
    if (
        write
        and results
        and known_machine != machine
        and len(repeats) < sum(1 for each in BENCHES.values() if each.repeats)
    ):
        print_line("docs/performance.json is of another machine: run all benches, without names")
        return 2
    found = run_all(BENCHES, repeats, scale, (find_commit(), f"{datetime.now(UTC):%Y-%m-%d}"))
    kept = results if known_machine == machine else {}
    if write:
        new = {name: each.join(kept.get(name)) for name, each in found.items() if each}
        write_results(DOCS, BENCHES, machine, kept | new)
    return report(missing(found))


def check(repeats: dict[str, int]) -> int:
    """Run benches, and name what got slower than the committed results."""
    machine, (known_machine, before) = describe_machine(), load_results(DOCS)
    if not before:
        print_line("docs/performance.json has no results to compare with: run make bench, and commit them")
        return 1
    if is_elsewhere := machine != known_machine:
        print_line(f"the results to compare with are of another machine: {known_machine}")
    if new := [name for name in repeats if name not in before]:
        print_line(f"not measured, since there is no result to compare with: {', '.join(new)}")
    known = {name: count for name, count in repeats.items() if name in before}
    found = run_all(BENCHES, known, 1.0, (find_commit(), ""))
    pace = find_pace(BENCHES, before, found)
    if max(pace, 1 / pace) > SLOWER:
        is_elsewhere = True
        print_line(f"bare programs take {pace:.2f} times the processor that they took for those results")
    if is_elsewhere:
        print_line(
            f"so only costs count that are over {SLOWER_ELSEWHERE:g} times as high, and no time of the clock:"
            " make your own results by `make bench`"
        )
    slower = check_again(BENCHES, before, found, elsewhere=pace if is_elsewhere else None)
    for each in slower:
        print_line(f"SLOWER: {each}")
    return report(missing(found)) or int(bool(slower))


def report(failed: Sequence[str]) -> int:
    for name in failed:
        print_line(f"NOT MEASURED: {name}")
    return int(bool(failed))


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what was started is ended, too
    sys.exit(main())
