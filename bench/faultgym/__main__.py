"""Run `python -m bench.faultgym`: each fault and each control, with each seed, on real fleets.

A case that is not right makes the exit code 1.
"""

import argparse
import signal
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Final

import orjson

from bench.faultgym.case import Case
from bench.faultgym.controls import CONTROLS
from bench.faultgym.faults import FAULTS
from bench.faultgym.fleet import TIMEOUT_SEC
from bench.faultgym.report import render_report, replace_table
from bench.faultgym.runner import run_seed
from bench.machine import describe_machine
from bench.programs import ROOT

CASES: Final = (*FAULTS, *CONTROLS)
PARTS: Final = ("service", "fleet")
HEALERS: Final = ("medic", "restart-only")
PAGE: Final = ROOT / "docs" / "services" / "medic.md"
JSON_FILE: Final = ROOT / "docs" / "faultgym.json"


def main() -> int:
    args = parse_arguments()
    cases = choose_cases(args.only, args.part)
    seeds = range(args.first_seed, args.first_seed + args.seeds)
    has_medic = args.healer == "medic"
    with ThreadPoolExecutor(args.fleets) as pool:
        runs = list(
            pool.map(
                lambda seed: run_seed(cases, seed, args.timeout, has_medic=has_medic, keep=args.keep), seeds
            )
        )
    results = [each for run in runs for each in run.results]
    origin = {
        "healer": args.healer,
        "seeds": len(seeds),
        "timeout_sec": args.timeout,
        "strays": sum(len(run.strays) for run in runs),
        "excused": sum(run.excused for run in runs),
        "machine": describe_machine(),
    }
    text = render_report(results, origin)
    print(text)
    document = {**origin, "trials": [each.to_json() for each in results]}
    if args.json is not None:
        args.json.write_bytes(orjson.dumps(document, option=orjson.OPT_INDENT_2))
    if args.write:
        PAGE.write_text(replace_table(PAGE.read_text("utf-8"), text), "utf-8")
        JSON_FILE.write_bytes(orjson.dumps(document, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))
    return int(origin["strays"] > 0 or not all(each.is_right for each in results))


def parse_arguments() -> Any:
    parser = argparse.ArgumentParser(prog="make faultgym", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seeds", type=int, default=5, help="how often each case is tried")
    parser.add_argument("--first-seed", type=int, default=1)
    parser.add_argument("--only", action="append", help="a name, or a pattern of names; may be repeated")
    parser.add_argument("--part", choices=PARTS, help="cases that touch one service, or all; both by default")
    parser.add_argument("--healer", choices=HEALERS, default="medic")
    parser.add_argument("--fleets", type=int, default=1, help="how many seeds are tried at the same time")
    parser.add_argument("--timeout", type=float, default=TIMEOUT_SEC, help="of each service, in seconds")
    parser.add_argument("--keep", type=Path, help="a folder for the truths and logs of the fleets")
    parser.add_argument("--json", type=Path, help="a file for all results")
    parser.add_argument("--write", action="store_true", help="write docs/services/medic.md, too")
    args = parser.parse_args()
    if not choose_cases(args.only, args.part):
        parser.error(f"no such case; there are {', '.join(case.name for case in CASES)}")
    if args.write and (args.only or args.healer != "medic"):
        parser.error("--write is for all cases, and for medic")
    return args


def choose_cases(patterns: Sequence[str] | None, part: str | None) -> list[Case]:
    """Return the cases that a pattern names, of the part that touches one service or the whole fleet."""
    return [
        each
        for each in CASES
        if (part is None or each.is_alone is (part == "fleet"))
        and (not patterns or any(fnmatchcase(each.name, one) for one in patterns))
    ]


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what was started is ended, too
    sys.exit(main())
