"""`make soak ARGS="--minutes 30"`: a real fleet, random faults, and an account that has to balance.

Ends with 0 when what was told is what was really done, else with 1; Ctrl-C ends it early, and is told the
account so far.
"""

import argparse
import shutil
import signal
import sys
import tempfile
from pathlib import Path

from soak.report import said
from soak.run import Plan, Soak
from soak.schedule import LANES
from support.rig.forkserver import real_starts


def main() -> int:
    args = _parser().parse_args()
    folder = Path(args.folder or tempfile.mkdtemp(prefix="soak-"))
    folder.mkdir(parents=True, exist_ok=True)
    plan = Plan(
        args.minutes,
        args.seed,
        args.services,
        args.healers,
        args.lease,
        frozenset(args.spare or ()),
        args.code,
    )
    soak = Soak(plan, folder, _say)
    _say(f"seed {plan.seed}; schedule, logs and what was told lie in {folder}")
    for number in (signal.SIGINT, signal.SIGTERM):  # a shell may have had them ignored
        signal.signal(number, signal.default_int_handler)
    with real_starts():  # the account holds the healers' own memory
        soak.run()
    for line in said(soak):
        _say(line)
    if soak.account.findings:
        _say(f"does not balance: seed {plan.seed}, logs in {folder}")
        return 1
    if not (args.folder or args.keep):
        shutil.rmtree(folder)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="make soak", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=10, help="how long faults are made (10)")
    parser.add_argument("--seed", type=int, default=1, help="of all chance (1)")
    parser.add_argument("--services", type=int, default=40, help="that beat (40)")
    parser.add_argument("--healers", type=int, default=2, help="that watch (2)")
    parser.add_argument("--lease", type=float, default=1.0, help="HEALER_LEASE_SEC (1)")
    parser.add_argument("--spare", action="append", choices=LANES, help="a kind of fault to leave out")
    parser.add_argument("--folder", help="for data and logs, kept; default: a temporary one")
    parser.add_argument(
        "--keep", action="store_true", help="keep the temporary folder of a run that balances"
    )
    parser.add_argument("--code", default="", help="run the packages in this folder, not those installed")
    return parser


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
