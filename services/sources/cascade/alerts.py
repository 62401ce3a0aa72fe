"""Find out what the answers of a source say of the source itself: whether it is up. Pure.

`OutageAlerts` counts these outcomes, and publishes that a source is missed. The state of a source in
`market:sources` is for those who read it.
"""

from collections.abc import Iterable
from typing import Any, Final

import orjson

from marketswarm.agent.outage_state import OutageState
from services.sources.cascade.state import SourceFinding, SourceVerdict, clean_reason
from services.sources.catalog.mapping import PLAN_STATUS

MOST_REFUSALS: Final = 5
"""How often in a row a source may say that it takes no more requests, though our own count has room."""
_GOOD: Final = frozenset(
    {
        SourceVerdict.FRESH,
        SourceVerdict.LATE,
        SourceVerdict.EMPTY,
        SourceVerdict.REFUSED,
        SourceVerdict.LIMITED,
    }
)
"""The answers of a source that is up, whatever it says of the series."""
_BAD: Final = frozenset({SourceVerdict.FAILED, SourceVerdict.WRONG})
_REJECTED: Final = frozenset({SourceVerdict.WRONG, SourceVerdict.REFUSED})
"""The answers that are of no use however often the source is asked."""
_USABLE: Final = frozenset({SourceVerdict.FRESH, SourceVerdict.LATE, SourceVerdict.EMPTY})
_PLAN_REASONS: Final = frozenset(map(str, PLAN_STATUS))


def is_well(finding: SourceFinding) -> bool | None:
    """Return whether a source is up by a finding; None if that says nothing. Only an answer and a failure do.

    What the stream of a source brings says nothing of whether the source answers requests. Neither does a
    refusal with 402 or 403: the plan of our key may lack one series, or the key may be good for nothing.
    """
    is_of_plan = finding.verdict is SourceVerdict.REFUSED and finding.reason in _PLAN_REASONS
    if not finding.is_asked or is_of_plan:
        return None
    return True if finding.verdict in _GOOD else False if finding.verdict in _BAD else None


def find_outcomes(
    findings: Iterable[SourceFinding], refusals: Iterable[int], miss_after: int
) -> dict[str, str | None]:
    """Return by source the error of each that failed, and None for each that is up.

    Args:
        refusals: how often in a row each of them took no more requests. One that refuses every request of
            ours serves nothing: the last ones of MOST_REFUSALS are failures, so that it is missed with them.
        miss_after: after how many failures in a row a source is missed.
    """
    found: dict[str, str | None] = {}
    for finding, refused in zip(findings, refusals, strict=True):
        well = is_well(finding)
        if well is not None:
            is_refusing = refused > 0 and refused > MOST_REFUSALS - miss_after
            is_up = well and not is_refusing
            found[finding.source] = None if is_up else clean_reason(finding.reason or finding.verdict)
    return found


def encode_finding(finding: SourceFinding) -> bytes:
    """Return how a finding changes the state of its source, as JSON for `source_state.lua`."""
    well, is_limited = is_well(finding), finding.verdict is SourceVerdict.LIMITED
    reason = clean_reason(finding.reason or ("" if well else finding.verdict))
    change: dict[str, Any] = {
        "name": finding.source,
        "set": {"outcome": finding.verdict, "reason": reason},
        "now": ["asked_at"],
        "add": {
            **dict.fromkeys(("since", "checked_at", "ok_at"), 0),  # each field is there from the beginning
            "records": len(finding.records),
            "answers": int(well is True),
            "limited": int(is_limited),
            "refusals": int(well is True and is_limited),
            "failures": int(well is False),
            "fails": int(well is False),
            "rejects": int(finding.is_asked and finding.verdict in _REJECTED),
        },
    }
    if finding.is_asked and finding.verdict in _USABLE:
        change["set"] |= {"rejects": 0}
    if well is not None:
        change["now"] += ["checked_at", "ok_at"] if well else ["checked_at"]
    if well:
        change["set"] |= {"fails": 0} if is_limited else {"fails": 0, "refusals": 0}
    return orjson.dumps(change)


def encode_verdict(source: str, state: OutageState) -> bytes:
    """Return a source's verdict as a change of its state, as JSON for `source_state.lua`."""
    change = {"name": source, "state": state.verdict}
    is_since_known = state.verdict == "down" and state.since is not None
    return orjson.dumps(change | {"since": state.since} if is_since_known else change)
