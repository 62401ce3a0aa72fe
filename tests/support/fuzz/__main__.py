"""Feeds hostile input by the million: `make fuzz ARGS="--only beat --cases 5000 --seed 7"`."""

# ruff: noqa: T201 - a program that prints what it found

import argparse
import random
import sys

from support.fuzz.fast_path import SIGHT
from support.fuzz.mutation import Found, Target, feed
from support.fuzz.replies import replies, wire
from support.fuzz.targets import BEAT, EVENT, TRUTH


def main() -> int:
    """Feed every target, or one; print what came of it."""
    with replies() as parser, wire() as server:
        targets = {target.name: target for target in (BEAT, EVENT, TRUTH, SIGHT, parser, server.target())}
        says = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
        says.add_argument("--cases", type=int, default=1_200_000, help="over all targets")
        says.add_argument("--seed", type=int, default=None, help="default: another one each time")
        says.add_argument("--only", choices=targets, help="one target alone gets all the cases")
        args = says.parse_args()
        seed = random.randrange(1_000_000) if args.seed is None else args.seed
        print(f"seed {seed}")
        chosen = [targets[args.only]] if args.only else list(targets.values())
        found = [
            _shown(each, args.cases if args.only else round(args.cases * each.share), seed) for each in chosen
        ]
    print(f"{sum(each.cases for each in found):,} cases in {sum(each.sec for each in found):.0f} s")
    return any(each.failure for each in found)


def _shown(target: Target, cases: int, seed: int) -> Found:
    found = feed(target, cases, seed)
    print(
        f"{found.name:8} {found.cases:9,} cases  {found.sec:6.1f} s  {len(found.outcomes):5} outcomes  "
        f"slowest {1000 * found.slowest_sec:.0f} ms  {'FAILED' if found.failure else 'ok'}",
        flush=True,
    )
    if found.failure:
        print(found.failure)
    return found


if __name__ == "__main__":
    sys.exit(main())
