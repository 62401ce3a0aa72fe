"""Add up the summaries of several pytest runs: `summary.py name=log …`.

Print a line for each run, then one in pytest's own form for all of them. The exit code is 1 unless every run
has ended without failures. In `name=log,log`, the second run is of what failed in the first: how it ended
there counts, and how many there were is said as `rerun`.
"""

import re
import sys
from collections import Counter
from pathlib import Path

COUNT = re.compile(r"(\d+) (passed|failed|errors?|skipped|deselected|xfailed|xpassed|warnings?)\b")
SUMMARY_LINE = re.compile(r"^=* ?((?:\d+ [a-z]+,? ?)+) in ([\d.]+)s\b", re.MULTILINE)
FAILED_KINDS = ("failed", "error")
WIDTH = 80


def count_results(log: str) -> tuple[Counter[str], float] | None:
    """Return the counts of the last summary in a log, and the seconds that the run took; None without one."""
    found = SUMMARY_LINE.findall(log)
    if not found:
        return None
    counts, seconds = found[-1]
    words = Counter[str]()
    for number, kind in COUNT.findall(counts):
        words[kind.removesuffix("s") if kind in ("errors", "warnings") else kind] += int(number)
    return words, float(seconds)


def main(arguments: list[str]) -> int:
    """Return 1 if a run has failures or no summary."""
    total: Counter[str] = Counter()
    seconds = 0.0
    for name, _, path in (argument.partition("=") for argument in arguments):
        found = _join([count_results(_read(each)) for each in path.split(",")])
        if found is None:
            print(f"  {name:20} has no summary: it did not come to its end")
            found = Counter(error=1), 0.0
        else:
            print(f"  {name:20} {_format_counts(found[0])} in {found[1]:.0f} s")
        total += found[0]
        seconds += found[1]
    minutes, rest = divmod(round(seconds), 60)
    took = f"{seconds:.2f}s ({minutes // 60}:{minutes % 60:02}:{rest:02})"
    print(f" {_format_counts(total) or 'no tests ran'} in {took} ".center(WIDTH, "="))
    return int(any(total[kind] for kind in FAILED_KINDS) or not total["passed"])


def _read(path: str) -> str:
    return Path(path).read_text(encoding="utf-8", errors="replace")


def _join(runs: list[tuple[Counter[str], float] | None]) -> tuple[Counter[str], float] | None:
    """Return the counts and seconds of a run and of that of its failures after it; None if one has no end."""
    first, *more = runs
    if first is None or not more or more[0] is None:
        return first if not more else None
    (counts, seconds), (again, again_seconds) = first, more[0]
    failed = sum(counts.pop(kind, 0) for kind in FAILED_KINDS)
    return counts + again + Counter(rerun=failed), seconds + again_seconds


def _format_counts(counts: Counter[str]) -> str:
    order = ("failed", "passed", "skipped", "deselected", "xfailed", "xpassed", "warning", "error", "rerun")
    several = {"error": "errors", "warning": "warnings"}
    named = ((counts[kind], several.get(kind, kind) if counts[kind] > 1 else kind) for kind in order)
    return ", ".join(f"{count} {kind}" for count, kind in named if count)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
