"""What a week of outages is summed up to."""

from marketswarm.operator.healing import EntryKind, TimelineEntry, fold_incidents
from services.medic.commands import format_report
from services.medic.report import make_report

DAY = 86_400.0
NOW = 1_762_433_458.0


def outage(number, *steps, svc="feed", symptom="silent", at=NOW - DAY):
    """Return the entries of an outage; a step is what it says, or that and how long it took."""
    told = [(step, None) if isinstance(step, EntryKind) else step for step in steps]
    return [
        TimelineEntry(
            incident=f"{svc}.{number}",
            ts=at + count,
            svc=svc,
            what=what,
            remedy="restart" if what in (EntryKind.ACTED, EntryKind.VERIFIED, EntryKind.FAILED) else "",
            reason=symptom
            if what is EntryKind.OPENED
            else "healed"
            if what is EntryKind.RESOLVED and EntryKind.VERIFIED in steps
            else "recovered"
            if what is EntryKind.RESOLVED
            else "",
            sec=sec,
        )
        for count, (what, sec) in enumerate(told)
    ]


HEALED = EntryKind.OPENED, EntryKind.ACTED, EntryKind.VERIFIED
FAILED = EntryKind.OPENED, EntryKind.ACTED, EntryKind.FAILED, EntryKind.ESCALATED


def report(*outages, oldest=None):
    entries = [entry for each in outages for entry in each]
    return make_report(fold_incidents(entries), NOW - 7 * DAY, oldest)


def test_shares_times_and_patterns_are_those_of_the_record():
    found = report(
        *(outage(number, *HEALED, (EntryKind.RESOLVED, 4.0 + number)) for number in range(3)),
        outage(7, *FAILED, (EntryKind.RESOLVED, 600.0), svc="mesh"),
        outage(8, *FAILED, svc="mesh"),
    )
    assert (found.outages, found.ended) == (5, 4)
    assert (found.share_healed, found.share_escalated) == (0.75, 0.4)
    assert (found.resolution_time_median_seconds, found.resolution_time_p95_seconds) == (5.0, 600.0)
    assert [(each.svc, each.outages, each.healed, each.escalated) for each in found.patterns] == [
        ("feed", 3, 3, 0),
        ("mesh", 2, 0, 2),
    ]
    (lesson,) = found.remedies
    assert (lesson.treatment.remedy, lesson.posterior.helped, lesson.posterior.failed) == ("restart", 3, 2)
    assert format_report(found, 7, NOW) == [
        "5 outages in 7 days, 4 of them over",
        "of the ended outages: healed 75 %, recovered 25 %".replace(" %", "%"),
        "escalated: 40% of all",
        "time until up: 5 s (median), 10 min (95 % took no longer)",
    ]


def test_what_is_older_is_left_out_and_what_lost_its_beginning_is_counted_apart():
    found = report(
        outage(1, *HEALED, (EntryKind.RESOLVED, 4.0), at=NOW - 8 * DAY),
        outage(2, EntryKind.ACTED, EntryKind.VERIFIED, (EntryKind.RESOLVED, 4.0)),
        oldest=NOW - 2 * DAY,
    )
    assert (found.outages, found.without_beginning, found.complete_since) == (0, 1, NOW - 2 * DAY)
    lines = format_report(found, 7, NOW)
    assert lines[0] == "0 outages in 7 days, 0 of them over"
    assert lines[1] == "1 more are on record without their beginning"
    assert lines[2].startswith("the record begins at ")


def test_a_record_that_goes_back_far_enough_is_complete():
    assert report(oldest=NOW - 8 * DAY).complete_since is None
