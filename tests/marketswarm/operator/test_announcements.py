"""Announcements: what is valid, what holds, and what is shown when."""

import pytest
from pydantic import ValidationError

from marketswarm.operator.announcements import (
    MAX_UPDATES,
    PAST_SEC,
    AnnouncementEntry,
    AnnouncementPhase,
    AnnouncementState,
    fold_announcements,
    select_open,
    select_past,
)

T = 1_800_000_000.0


def make_entry(ident: str = "a", ts: float = T, state: str = "investigating", **values) -> AnnouncementEntry:
    """Return an entry; `values` replace its fields."""
    usual = {"title": "Slow", "text": "We look into it.", "author": "kim"}
    return AnnouncementEntry(id=ident, ts=ts, state=AnnouncementState(state), **usual | values)


def make_maintenance(**values) -> AnnouncementEntry:
    """Return maintenance of an hour that begins in ten minutes."""
    times = {"begins_at": T + 600, "ends_at": T + 4200}
    return make_entry("m", state=values.pop("state", "scheduled"), **times | values)


@pytest.mark.parametrize(
    "values",
    [{"ends_at": None}, {"ends_at": T + 600}, {"begins_at": None}, {"title": ""}, {"text": "x" * 2001}],
)
def test_what_is_out_of_bounds_is_refused(values):
    with pytest.raises(ValidationError):
        make_maintenance(**values)


def test_only_maintenance_is_scheduled():
    with pytest.raises(ValidationError):
        make_entry(state="scheduled")


def test_the_newest_entry_of_an_announcement_holds_and_the_last_that_was_changed_comes_first():
    entries = [make_entry("a"), make_entry("b"), make_entry("a", T + 5, "monitoring", title="Slow shop")]
    first, second = fold_announcements(entries)
    assert (first.latest.title, [one.state for one in first.updates]) == (
        "Slow shop",
        ["monitoring", "investigating"],
    )
    assert second.latest.id == "b"


def test_only_so_many_updates_are_kept():
    (found,) = fold_announcements(make_entry(ts=T + number) for number in range(MAX_UPDATES + 9))
    assert len(found.updates) == MAX_UPDATES
    assert found.latest.ts == T + MAX_UPDATES + 8


@pytest.mark.parametrize(
    ("now", "phase"),
    [
        (T + 599, AnnouncementPhase.PLANNED),
        (T + 600, AnnouncementPhase.UNDER_WAY),
        (T + 4199, AnnouncementPhase.UNDER_WAY),
        (T + 4200, AnnouncementPhase.OVER),
    ],
)
def test_maintenance_follows_the_clock(now, phase):
    (found,) = fold_announcements([make_maintenance()])
    assert found.find_phase(now) is phase
    assert found.find_end(now) == (T + 4200 if phase is AnnouncementPhase.OVER else None)


def test_what_goes_on_is_shown_before_what_is_planned_and_what_ended_for_two_weeks():
    some = fold_announcements(
        [
            make_maintenance(),
            make_entry("on"),
            make_entry("done", T + 1, "resolved"),
            make_entry("mistake", T + 2, "withdrawn"),
        ]
    )
    assert [one.latest.id for one in select_open(some, T + 9)] == ["on", "m"]
    assert [one.latest.id for one in select_past(some, T + 9)] == ["done"]
    assert [one.latest.id for one in select_past(some, T + 5000)] == ["m", "done"]
    assert select_past(some, T + 5000 + PAST_SEC) == []


def test_a_page_of_a_tag_shows_what_concerns_it_and_what_concerns_all():
    some = fold_announcements(
        [make_entry("web", tags=("web",)), make_entry("all"), make_entry("db", tags=("db",))]
    )
    assert [one.latest.id for one in select_open(some, T, "web")] == ["all", "web"]
    assert [one.latest.id for one in select_open(some, T)] == ["db", "all", "web"]
