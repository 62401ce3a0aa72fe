"""The record of earlier outages, as a medic would have written it: how often each remedy helped."""

from collections.abc import Sequence

from marketswarm.operator.healing import EntryKind, TimelineEntry

Step = tuple[str, str] | tuple[str, str, str]
"""What an entry says, the remedy, and the reason or the id of a proposal."""
BY_ITSELF: Sequence[Step] = (("waiting", "wait"), ("recovered", ""), ("resolved", "", "recovered"))


def make_outage(svc: str, ts: float, *steps: Step, symptom: str = "silent") -> list[TimelineEntry]:
    """Return the timeline of one outage, an entry a second, after the one that opens it."""
    entries: list[TimelineEntry] = []
    for at, (what, remedy, *more) in enumerate([("opened", "", symptom), *steps]):
        said = "".join(more)
        is_asked = what in ("proposed", "diagnosed")
        entries.append(
            TimelineEntry(
                incident=f"{svc}.{round(ts)}",
                ts=ts + at,
                svc=svc,
                what=EntryKind(what),
                remedy=remedy,
                reason="" if is_asked else said,
                proposal=said if is_asked else "",
            )
        )
    return entries


def list_attempt(remedy: str, *, helps: bool, is_approved: bool = False) -> list[Step]:
    """Return the steps of an outage with one attempt at a remedy, after waiting was in vain."""
    asked: list[Step] = [("proposed", remedy, "1234abcd"), ("approved", remedy)] if is_approved else []
    begin: list[Step] = [("waiting", "wait"), *asked, ("intended", remedy), ("acted", remedy)]
    if helps:
        return [*begin, ("verified", remedy), ("resolved", "", "healed")]
    return [*begin, ("failed", remedy), ("escalated", "", "exhausted"), *BY_ITSELF[1:]]


def make_record(
    *,
    svc: str = "feed",
    symptom: str = "silent",
    waits: int = 0,
    begin: float = 1000.0,
    **tried: tuple[int, int],
) -> list[TimelineEntry]:
    """Return a record in which the service came back `waits` times by itself; each attempt is an outage.

    `tried` has for each remedy how often it helped, and how often it was tried.
    """
    outages: list[Sequence[Step]] = [BY_ITSELF] * waits
    for remedy, (helped, attempts) in tried.items():
        outages += [list_attempt(remedy, helps=number < helped) for number in range(attempts)]
    made = [
        make_outage(svc, begin + 100 * number, *steps, symptom=symptom)
        for number, steps in enumerate(outages)
    ]
    return [entry for outage in made for entry in outage]
