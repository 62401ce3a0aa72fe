"""Adds up the summaries of several pytest runs: `summary.py name=log …`.

Prints a line a run, then one in pytest's own form for all of them. Ends with 1 unless each run has come to
its end, and is green.
"""

import re
import sys
from collections import Counter
from pathlib import Path

COUNTED = re.compile(r"(\d+) (passed|failed|errors?|skipped|deselected|xfailed|xpassed|warnings?)\b")
SUMMARY = re.compile(r"^=* ?((?:\d+ [a-z]+,? ?)+) in ([\d.]+)s\b", re.MULTILINE)
RED = ("failed", "error")
WIDTH = 80


def count(log: str) -> tuple[Counter[str], float] | None:
    """Return what the last summary in a log counted, and the seconds that the run took."""
    found = SUMMARY.findall(log)
    if not found:
        return None
    counts, seconds = found[-1]
    words = Counter[str]()
    for number, kind in COUNTED.findall(counts):
        words[kind.removesuffix("s") if kind in ("errors", "warnings") else kind] += int(number)
    return words, float(seconds)


def main(arguments: list[str]) -> int:
    """Print the sum; return 1 if a run is red or has no summary."""
    whole: Counter[str] = Counter()
    seconds = 0.0
    for name, _, path in (argument.partition("=") for argument in arguments):
        found = count(Path(path).read_text(encoding="utf-8", errors="replace"))
        if found is None:
            print(f"  {name:20} has no summary: it did not come to its end")
            found = Counter(error=1), 0.0
        else:
            print(f"  {name:20} {_words(found[0])} in {found[1]:.0f} s")
        whole += found[0]
        seconds += found[1]
    minutes, rest = divmod(round(seconds), 60)
    took = f"{seconds:.2f}s ({minutes // 60}:{minutes % 60:02}:{rest:02})"
    print(f" {_words(whole) or 'no tests ran'} in {took} ".center(WIDTH, "="))
    return int(any(whole[kind] for kind in RED) or not whole["passed"])


def _words(counts: Counter[str]) -> str:
    order = ("failed", "passed", "skipped", "deselected", "xfailed", "xpassed", "warning", "error")
    several = {"error": "errors", "warning": "warnings"}
    named = ((counts[kind], several.get(kind, kind) if counts[kind] > 1 else kind) for kind in order)
    return ", ".join(f"{count} {kind}" for count, kind in named if count)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
