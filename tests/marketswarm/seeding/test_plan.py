"""What a seeding has to do, from what the buses hold: the revision is shared and never goes back."""

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from marketswarm.seeding.plan import BusState, make_plan

NEW, OLD, OTHER = b"new", b"old", b"other"


def sha(document: bytes | None) -> str:
    return hashlib.sha256(document).hexdigest() if document is not None else ""


def holding(bus: str, document: bytes | None, revision: int, /, **other) -> BusState:
    """A bus that was seeded with a document, and what is different about it."""
    usual = {
        "document": document,
        "revision": revision,
        "sha256": sha(document),
        "seeded_at": f"{revision}.5",
        "seeded_by": "someone",
        "last_revision": revision,
        "last_sha256": sha(document),
    }
    return BusState(bus=bus, **{**usual, **other})


def test_the_first_seeding_is_revision_one():
    made = make_plan(NEW, sha(NEW), [BusState("a"), BusState("b")])
    assert (made.revision, made.changed, made.must_publish) == (1, True, True)
    assert (made.writes, made.repairs, made.old_document) == (("a", "b"), (), None)


def test_the_same_again_asks_for_nothing():
    made = make_plan(NEW, sha(NEW), [holding("a", NEW, 4), holding("b", NEW, 4)])
    assert (made.revision, made.changed, made.must_publish, made.writes, made.repairs) == (
        4,
        False,
        False,
        (),
        (),
    )


def test_other_bytes_are_the_next_revision():
    made = make_plan(NEW, sha(NEW), [holding("a", OLD, 4), holding("b", OLD, 4)])
    assert (made.revision, made.changed, made.must_publish, made.writes) == (5, True, True, ("a", "b"))
    assert (made.old_document, made.seeded_at, made.repairs) == (OLD, "", ())


def test_a_missing_document_comes_back_under_its_old_revision_and_unannounced():
    made = make_plan(NEW, sha(NEW), [holding("a", NEW, 4), holding("b", NEW, 4, document=None)])
    assert (made.revision, made.changed, made.must_publish) == (4, False, False)
    assert (made.writes, made.repairs) == (("b",), ("b",))
    assert (made.seeded_at, made.seeded_by) == ("4.5", "someone")


def test_an_empty_bus_joins_the_other_under_its_revision():
    made = make_plan(NEW, sha(NEW), [BusState("a"), holding("b", NEW, 4)])
    assert (made.revision, made.changed, made.must_publish, made.repairs) == (4, False, False, ("a",))


def test_a_bus_that_fell_behind_is_brought_up_and_its_agents_are_told():
    made = make_plan(NEW, sha(NEW), [holding("a", OLD, 3), holding("b", NEW, 4)])
    assert (made.revision, made.changed, made.must_publish, made.repairs) == (4, False, True, ("a",))


def test_two_revisions_of_the_same_bytes_become_the_higher_one():
    made = make_plan(NEW, sha(NEW), [holding("a", NEW, 2), holding("b", NEW, 7)])
    assert (made.revision, made.changed, made.must_publish, made.writes) == (7, False, False, ("a",))


def test_new_bytes_are_above_the_highest_revision_of_any_bus():
    made = make_plan(NEW, sha(NEW), [holding("a", OLD, 2), holding("b", OTHER, 7)])
    assert (made.revision, made.changed, made.old_document) == (8, True, OTHER)


def test_one_revision_with_two_meanings_is_left_behind():
    made = make_plan(NEW, sha(NEW), [holding("a", NEW, 4), holding("b", OLD, 4)])
    assert (made.revision, made.changed) == (5, True)


def test_going_back_to_an_older_document_is_a_new_revision():
    made = make_plan(OLD, sha(OLD), [holding("a", OLD, 3), holding("b", NEW, 4)])
    assert (made.revision, made.changed) == (5, True)


def test_a_lost_meta_does_not_let_the_revision_go_back():
    lost = {"revision": 0, "sha256": "", "seeded_at": "", "seeded_by": ""}
    made = make_plan(NEW, sha(NEW), [holding("a", OLD, 4, **lost), holding("b", OLD, 4, **lost)])
    assert made.revision == 5
    same = make_plan(OLD, sha(OLD), [holding("a", OLD, 4, **lost), holding("b", OLD, 4, **lost)])
    assert (same.revision, same.changed, same.must_publish, same.repairs) == (4, False, False, ("a", "b"))


def test_a_lost_history_is_begun_anew_under_the_same_revision():
    made = make_plan(
        NEW, sha(NEW), [holding("a", NEW, 4), holding("b", NEW, 4, last_revision=0, last_sha256="")]
    )
    assert (made.revision, made.changed, made.repairs) == (4, False, ("b",))


def test_bytes_changed_behind_the_metas_back_are_repaired_and_announced():
    made = make_plan(NEW, sha(NEW), [holding("a", NEW, 4), holding("b", NEW, 4, document=OTHER)])
    assert (made.revision, made.changed, made.must_publish, made.repairs) == (4, False, True, ("b",))


def test_a_document_put_there_by_hand_gets_its_first_revision_unannounced():
    made = make_plan(NEW, sha(NEW), [BusState("a", document=NEW), BusState("b", document=NEW)])
    assert (made.revision, made.changed, made.must_publish, made.repairs) == (1, False, False, ("a", "b"))


DOCUMENTS = st.sampled_from([None, NEW, OLD, OTHER])


@st.composite
def states(draw):
    made = []
    for bus in draw(st.sampled_from([("a", "b"), ("a", "b", "c")])):
        document, revision = draw(DOCUMENTS), draw(st.integers(0, 4))
        said = draw(DOCUMENTS)
        last = draw(st.integers(0, 4))
        made.append(
            holding(
                bus,
                document,
                revision,
                sha256=sha(said),
                last_revision=last,
                last_sha256=sha(draw(DOCUMENTS)),
            )
        )
    return made


@given(states())
def test_whatever_the_buses_hold_the_revision_never_goes_back_and_a_second_seeding_has_nothing_to_do(before):
    made = make_plan(NEW, sha(NEW), before)
    highest = max(each.highest_revision for each in before)
    assert highest <= made.revision <= highest + 1
    assert made.revision >= 1
    after = [holding(each.bus, NEW, made.revision) if each.bus in made.writes else each for each in before]
    assert all(each.holds(NEW, sha(NEW), made.revision) for each in after)
    again = make_plan(NEW, sha(NEW), after)
    assert (again.revision, again.writes, again.changed, again.must_publish) == (
        made.revision,
        (),
        False,
        False,
    )


@given(states())
def test_no_revision_ever_means_two_documents(before):
    made = make_plan(NEW, sha(NEW), before)
    for each in before:
        if each.highest_revision == made.revision:
            assert each.highest_sha256 == sha(NEW)


@pytest.mark.parametrize("field", ["document", "revision", "sha256", "last_revision", "last_sha256"])
def test_a_bus_is_done_only_when_everything_about_it_is_right(field):
    wrong = {"document": None, "revision": 3, "sha256": "x", "last_revision": 3, "last_sha256": "x"}
    assert holding("a", NEW, 4).holds(NEW, sha(NEW), 4)
    assert not holding("a", NEW, 4, **{field: wrong[field]}).holds(NEW, sha(NEW), 4)
