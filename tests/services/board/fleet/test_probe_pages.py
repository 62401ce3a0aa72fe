"""How the board says what massive knows of a target."""

import orjson
import pytest

from marketswarm.agent.outage_state import UNKNOWN_STATE, OutageState
from marketswarm.status.probe_past import FailureRun, ProbeReading, ProbeRecord
from marketswarm.truth import parse_truth
from services.board.fleet.probe_pages import find_settings, make_probe_answer, make_views

AT = 1_795_402_800.0
OK = ProbeReading(AT, True, total_sec=0.04)
FAILED = ProbeReading(AT, False, stage="tcp", error="refused")
RUN = FailureRun(AT - 30, AT, 3, "tcp", "refused", is_open=True)
DOWN = OutageState("down", since=AT - 60, error="timeout")


def texts(answer):
    return [(each.text, each.at) for each in answer.phrases]


@pytest.mark.parametrize(
    ("latest", "failures", "stored", "mark", "said"),
    [
        (OK, (), OutageState("up"), ("up", "up"), []),
        (FAILED, (RUN,), OutageState("up"), ("failed", "failing"), [("refused since", AT - 30)]),
        (FAILED, (RUN,), DOWN, ("down", "down"), [("timeout since", AT - 60)]),
        (OK, (), DOWN, ("down", "down"), [("timeout since", AT - 60)]),
        (None, (), OutageState("up"), ("unknown", "unknown"),
         [("no probe of it was stored lately: does massive run?", None)]),
    ],
)  # fmt: skip
def test_a_state_is_massives_verdict_and_else_the_last_probe(latest, failures, stored, mark, said):
    answer = make_probe_answer(ProbeRecord("shop", latest, failures=failures), stored)
    assert (answer.svc, answer.state, answer.word, texts(answer)) == ("massive/shop", *mark, said)


def test_what_others_wrote_is_escaped():
    hostile = "\x1b[31m\u202e"
    reading = ProbeReading(
        AT, False, hostile, hostile, hostile, hostile, hostile, address=hostile, issuer=hostile
    )
    run = FailureRun(AT, AT, 1, hostile, hostile, is_open=False)
    stored = OutageState("down", since=AT, error=hostile)
    answer = make_probe_answer(ProbeRecord("shop" + hostile, reading, failures=(run,)), stored)
    shown = orjson.dumps(answer).decode() + orjson.dumps(make_views(["a" + hostile], {})).decode()
    assert "\\u001b" not in shown
    assert "\u202e" not in shown


def test_targets_are_listed_in_the_order_of_the_truth_with_their_last_result():
    views = make_views(["b", "a", "c"], {"a": FAILED, "c": OK})
    assert [(each.svc, each.state) for each in views] == [
        ("massive/b", "unknown"),
        ("massive/a", "failed"),
        ("massive/c", "up"),
    ]


def test_settings_are_those_of_the_target_and_else_of_massive():
    targets = [{"name": "shop", "url": "https://shop.example/", "every_sec": 60}, {"name": "db"}, "x"]
    services = {"massive": {"settings": {"probe_sec": 5, "targets": targets}}}
    truth = parse_truth(orjson.dumps({"services": services})).truth
    found = find_settings(truth, "shop")
    assert found is not None
    assert (found.every_sec, orjson.loads(found.document)) == (60.0, targets[0])
    db = find_settings(truth, "db")
    assert db is not None
    assert db.every_sec == 5.0
    assert find_settings(truth, "nobody") is None
    assert find_settings(parse_truth(b'{"services": {"shop": {}}}').truth, "shop") is None


def test_no_state_that_is_stored_is_no_verdict():
    assert make_probe_answer(ProbeRecord("shop", OK), UNKNOWN_STATE).state == "up"
