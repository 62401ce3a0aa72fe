"""A turn that a bus did not take is kept without what is superseded."""

from marketswarm.attention.keys import ASKS_KEPT
from notifier.turn import DEAD_LENGTH, TOLD_AT_MOST, Turn


def test_a_turn_that_was_not_taken_keeps_no_changes_of_the_state_and_loses_no_acknowledgement():
    turn = Turn({"o:m:1": None}, log_acks={"a": [b"1-0"]}, ask_acks={"a": [b"2-0"]}, told={"e": b"{}"})
    assert turn.shorten() == {}
    expected = Turn(log_acks={"a": [b"1-0"]}, ask_acks={"a": [b"2-0"]}, told={"e": b"{}"})
    assert turn == expected
    assert turn.acks("a") == ([b"1-0"], [b"2-0"])
    assert (turn.acks_count("a"), turn.acks_count("b")) == (2, 0)


def test_the_answers_to_the_latest_asks_are_kept():
    turn = Turn(answers={f"ask{n}": [b"x"] for n in range(ASKS_KEPT + 3)})
    assert turn.shorten() == {"answers": 3}
    assert list(turn.answers) == [f"ask{n}" for n in range(3, ASKS_KEPT + 3)]


def test_the_latest_records_of_what_people_were_told_are_kept():
    turn = Turn(told={f"e{n}": b"{}" for n in range(TOLD_AT_MOST + 2)})
    assert turn.shorten() == {"told": 2}
    assert turn.shorten() == {}
    assert (len(turn.told), next(iter(turn.told))) == (TOLD_AT_MOST, "e2")


def test_a_dead_message_that_is_resent_again_and_again_is_deleted_once():
    turn = Turn()
    entries = [b"%d-0" % n for n in range(3 * DEAD_LENGTH)]
    for _ in range(3):
        turn.add(Turn(undead={"a": entries[:DEAD_LENGTH]}))
        turn.shorten()
    assert turn.undead == {"a": entries[:DEAD_LENGTH]}
    turn.add(Turn(undead={"a": entries[DEAD_LENGTH:]}))
    turn.shorten()
    assert turn.undead == {"a": entries[DEAD_LENGTH:]}
