"""`python -m marketproof`: the market under kills, and a batch that every row must equal.

Ends with 0 if every row of the database is what a batch computation over the raw file gives, else with 1.
"""

import argparse
import shutil
import sys
import tempfile
import time
from datetime import date
from pathlib import Path

from marketproof.plan import AUTUMN_WEEK, FEEDS, Plan
from marketproof.run import Proof
from support.market_prices import DST_WEEK

WEEKS = {"dst": AUTUMN_WEEK, "spring": DST_WEEK, "early-close": date(2025, 11, 24)}
"""The first days of weeks that are over: no record may be younger than the entry that brings it."""


def main() -> int:
    args = _parser().parse_args()
    folder = Path(args.folder or tempfile.mkdtemp(prefix="marketproof-"))
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()):  # buses go on with what they find, and the database is new
        raise SystemExit(f"{folder} is not empty")
    week = WEEKS.get(args.week) or date.fromisoformat(args.week)
    plan = Plan(args.kills, args.seed, args.every, week, args.days, args.symbols, args.torn, args.cuts)
    proof = Proof(plan, folder, _say)
    _say(f"seed {plan.seed}, {plan.days} days from {plan.week}; logs lie in {folder}")
    begun = time.monotonic()
    proof.run()
    for line in proof.list_lines():
        _say(line)
    _say(f"took {time.monotonic() - begun:.0f} s")
    if proof.comparison.differences:
        _say(f"not the same: seed {plan.seed}, logs in {folder}")
        return 1
    if not args.folder:
        shutil.rmtree(folder)
    _say("every row is as it must be")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="marketproof", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--kills", type=int, default=100, help="how many (100)")
    parser.add_argument("--seed", type=int, default=7, help="of all chance (7)")
    parser.add_argument("--every", type=float, default=6.0, help="mean seconds between two of them (6)")
    parser.add_argument("--week", default="dst", help=f"{', '.join(WEEKS)}, or its first day as a date (dst)")
    parser.add_argument("--days", type=int, default=7, help="days of the week that are played (7)")
    parser.add_argument("--symbols", type=int, default=len(FEEDS), help=f"of {len(FEEDS)} (all)")
    parser.add_argument(
        "--torn", type=float, default=0.0, help="share of a bus's kills that tear its file (0)"
    )
    parser.add_argument("--cuts", type=int, default=0, help="how many connections are cut or frozen (0)")
    parser.add_argument("--folder", help="for data and logs, kept; default: a temporary one")
    return parser


def _say(line: str) -> None:
    sys.stdout.write(f"{time.strftime('%H:%M:%S', time.gmtime())} {line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
