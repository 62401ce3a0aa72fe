"""Run `python -m bench.faultgym`: each fault and each control, with each seed, on real fleets.

A case that is not right makes the exit code 1.
"""

import argparse
import os
import signal
import sys
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Final

import orjson

from bench.faultgym.case import Case
from bench.faultgym.controls import CONTROLS
from bench.faultgym.faults import FAULTS
from bench.faultgym.fleet import TIMEOUT_SEC
from bench.faultgym.healers import SEES, Healer, find_missing
from bench.faultgym.report import (
    COMPARED_BEGIN,
    TrialResult,
    parse_trial,
    render_comparison,
    render_report,
    replace_table,
)
from bench.faultgym.runner import GymRun, leave_out_missing, run_seed
from bench.machine import describe_machine
from bench.programs import ROOT

CASES: Final = (*FAULTS, *CONTROLS)
PAGE: Final = ROOT / "docs" / "faultgym.md"
JSON_FILE: Final = ROOT / "docs" / "faultgym.json"


def main() -> int:
    args = parse_arguments()
    if missing := find_missing(args.healer):
        print(f"skipped {args.healer}: {missing}", file=sys.stderr)
        return int(bool(os.environ.get("MARKETSWARM_CI")))
    seeds = range(args.first_seed, args.first_seed + args.seeds)
    chosen = choose_cases(args.only, args.healer, args.controls)
    cases = leave_out_missing(chosen) if args.seeds else []
    units = [(seed, part) for seed in seeds for part in split_cases(cases)]
    earlier = [orjson.loads(path.read_bytes()) for path in args.add]
    same = [each for each in earlier if each["healer"] == args.healer]
    others = [each for each in earlier if each["healer"] != args.healer]
    runs: list[GymRun] = []
    with ThreadPoolExecutor(args.fleets) as pool:
        started = [
            pool.submit(run_seed, part, seed, args.timeout, args.healer, keep=args.keep)
            for seed, part in units
        ]
        for each in as_completed(started):
            runs.append(each.result())
            if args.json is not None:  # so that a run that is broken off has what was done by then
                write_document(args.json, make_document(runs, same, args))
    document = make_document(runs, same, args)
    results = parse_trials(document)
    text = render_report(results, document)
    print(text)
    by_healer = group_trials([document, *others])
    compared = render_comparison(by_healer, SEES) if others else ""
    print(f"\n{compared}" if compared else "")
    if args.write:
        page = replace_table(PAGE.read_text("utf-8"), text)
        if compared:
            page = replace_table(page, compared, COMPARED_BEGIN)
        PAGE.write_text(page, "utf-8")
        write_document(JSON_FILE, {**document, "others": others})
    is_skipped = len(cases) < len(chosen) and args.seeds > 0 and bool(os.environ.get("MARKETSWARM_CI"))
    return int(is_skipped or document["strays"] > 0 or not all(each.is_right for each in results))


def parse_trials(document: Mapping[str, Any]) -> list[TrialResult]:
    by_name = {case.name: case for case in CASES}
    parsed = (parse_trial(each, by_name) for each in document["trials"])
    return [each for each in parsed if each is not None]


def group_trials(documents: Iterable[Mapping[str, Any]]) -> dict[str, list[TrialResult]]:
    """Return the trials of each healer."""
    grouped: dict[str, list[TrialResult]] = {}
    for each in documents:
        grouped.setdefault(Healer(each["healer"]), []).extend(parse_trials(each))
    return grouped


def write_document(path: Path, document: Mapping[str, Any]) -> None:
    path.write_bytes(orjson.dumps(document, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))


def parse_arguments() -> Any:
    parser = argparse.ArgumentParser(prog="make faultgym", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "--seeds", type=int, default=5, help="how often each case is tried; 0 for the earlier runs alone"
    )
    parser.add_argument("--first-seed", type=int, default=1)
    parser.add_argument("--only", action="append", help="a name, or a pattern of names; may be repeated")
    parser.add_argument("--controls", action="store_true", help="the controls alone")
    parser.add_argument("--healer", type=Healer, choices=tuple(Healer), default=Healer.MEDIC)
    parser.add_argument("--fleets", type=int, default=1, help="how many fleets run at the same time")
    parser.add_argument("--timeout", type=float, default=TIMEOUT_SEC, help="of each service, in seconds")
    parser.add_argument("--keep", type=Path, help="a folder for the truths and logs of the fleets")
    parser.add_argument("--json", type=Path, help="a file for all results")
    parser.add_argument(
        "--add",
        type=Path,
        action="append",
        default=[],
        help="such a file of an earlier run, for one table; of another healer, for a comparison",
    )
    parser.add_argument("--write", action="store_true", help="write docs/faultgym.md, too")
    args = parser.parse_args()
    if not choose_cases(args.only, args.healer, args.controls):
        parser.error(f"no such case; there are {', '.join(case.name for case in CASES)}")
    if args.write and (args.only or args.controls or args.healer is not Healer.MEDIC):
        parser.error("--write is for all cases, and for medic")
    return args


def choose_cases(patterns: Sequence[str] | None, healer: Healer, are_controls: bool = False) -> list[Case]:
    """Return the cases for a healer whose name a pattern names; all of them without patterns."""
    known = CONTROLS if are_controls else CASES
    cases = [each for each in known if healer is Healer.MEDIC or not each.is_for_medic]
    return [each for each in cases if not patterns or any(fnmatchcase(each.name, one) for one in patterns)]


def split_cases(cases: Sequence[Case]) -> list[list[Case]]:
    """Return the cases for a fleet each: they touch one service, the whole fleet, or its clock."""
    parts = dict[tuple[bool, bool], list[Case]]()
    for case in cases:
        parts.setdefault((case.is_alone, case.steps_clock), []).append(case)
    return list(parts.values())


def make_document(runs: Sequence[GymRun], earlier: Sequence[Mapping[str, Any]], args: Any) -> dict[str, Any]:
    """Return all results, with those of earlier runs, and where they come from."""
    trials = [each for document in earlier for each in document["trials"]]
    trials += [each.to_json() for run in runs for each in run.results]
    return {
        "healer": args.healer,
        "seeds": len({each["seed"] for each in trials}),
        "timeout_sec": args.timeout,
        "strays": sum(len(run.strays) for run in runs) + sum(each["strays"] for each in earlier),
        "excused": sum(run.excused for run in runs) + sum(each["excused"] for each in earlier),
        "machine": describe_machine(),
        "trials": trials,
    }


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: os._exit(143))  # its fleets end with it
    sys.exit(main())
