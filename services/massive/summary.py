"""The results of all targets in a few words, fit for a beat's detail. Pure."""

from collections.abc import Callable, Mapping, Sequence
from typing import Final

from services.massive.probes.result import Finding

SHOWN: Final = 4


def summed_up(targets: int, latest: Mapping[str, Finding], off: Mapping[str, str]) -> str | None:
    """`1 of 2 targets fail: db (tcp refused)`, what is not probed at all, what warns; None: all is well.

    `off` gives by kind why it is not.
    """
    failing = [each for each in latest.values() if not each.result.ok]
    warning = [each for each in latest.values() if each.result.ok and each.result.warning]
    said = [
        _counted(failing, f"of {targets} targets fail", lambda one: f"{one.result.stage} {one.result.error}"),
        f"off: {', '.join(f'{kind} ({why})' for kind, why in off.items())}" if off else "",
        _counted(warning, f"of {targets} targets warn", _warned),
    ]
    return "; ".join(filter(None, said)) or None


def _counted(some: Sequence[Finding], what: str, word: Callable[[Finding], str]) -> str:
    if not some:
        return ""
    shown = ", ".join(f"{each.target} ({word(each)})" for each in some[:SHOWN])
    more = f" and {len(some) - SHOWN} more" if len(some) > SHOWN else ""
    return f"{len(some)} {what}: {shown}{more}"


def _warned(finding: Finding) -> str:
    days_left = finding.result.facts.get("days_left")
    if finding.result.warning == "ends_soon" and days_left is not None:
        return f"ends in {days_left} days"
    return str(finding.result.warning)
