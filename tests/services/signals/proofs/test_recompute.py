"""A place is decided once more to the same bytes, or the input is named that is gone or was corrected."""

import random
from dataclasses import replace

import orjson
import pytest

from services.signals.cycle.market import WINDOW
from services.signals.log.entries import PlaceOutcome, make_place
from services.signals.proofs.recompute import RecomputeResult, list_named_bars, recompute_place
from support.decided_places import RULES, START, SYMBOL, WEIGHTS, play


def gather(content, bars):
    """Return what the archive has of the bars that a place names."""
    found = {}
    for name, named in list_named_bars(orjson.loads(content)).items():
        found[name] = [each for each in bars if named.first_ms <= each.start_ms <= named.last_ms]
    return found


@pytest.mark.parametrize("seed", range(40))
def test_a_place_is_decided_once_more_to_the_same_bytes(seed):
    content, at_ms, bars, rules = play(seed, count=random.Random(seed).choice([0, 1, 5, 30, 64, 80]))
    found = recompute_place(content, at_ms, gather(content, bars), rules)
    assert (found.result, found.differences) == (RecomputeResult.SAME, ())


@pytest.mark.parametrize(("timeframe", "length"), [("1h", 60), ("1d", 1440)])
def test_so_is_a_place_of_longer_bars_and_of_a_recording(timeframe, length):
    content, at_ms, bars, rules = play(3, replay=True, timeframe=timeframe, length=length)
    assert orjson.loads(content)["replay"] is True
    assert recompute_place(content, at_ms, gather(content, bars), rules).result is RecomputeResult.SAME


def test_bars_that_are_gone_or_were_corrected_are_named():
    content, at_ms, bars, rules = play(5)
    last = bars[-1]

    def explain(changed):
        found = recompute_place(content, at_ms, gather(content, changed), rules)
        return found.result, found.words

    source = last.source
    assert explain(bars[len(bars) - WINDOW + 10 :]) == (
        RecomputeResult.BARS_GONE,
        f"10 of its 64 1m bars of {source} are gone",
    )
    assert explain([]) == (RecomputeResult.BARS_GONE, f"64 of its 64 1m bars of {source} are gone")
    corrected = [*bars[:-1], last._replace(close=last.close + 0.01)]
    assert explain(corrected) == (
        RecomputeResult.BARS_CHANGED,
        f"its 64 1m bars of {source} were corrected since",
    )
    later = [*bars[:-1], last._replace(start_ms=last.start_ms - 1, source="three"), last]
    assert explain(later) == (
        RecomputeResult.BARS_CHANGED,
        f"1 1m bars of {source} came later than it was decided",
    )
    held = {**gather(content, bars), "held": []}
    found = recompute_place(content, at_ms, held, rules)
    assert (found.result, "of two are gone" in found.words) == (RecomputeResult.BARS_GONE, True)


def test_a_bar_of_a_voters_source_that_another_source_replaced_was_changed_and_is_not_gone():
    content, at_ms, bars, rules = play(5)
    found = gather(content, bars)
    named = list_named_bars(orjson.loads(content))["held"]
    own = [at for at, each in enumerate(found["held"]) if each.source == named.source]
    for at in (own[0], own[-1]):
        rows = list(found["held"])
        rows[at] = rows[at]._replace(source="three")
        replaced = recompute_place(content, at_ms, {**found, "held": rows}, rules)
        assert replaced.result is RecomputeResult.BARS_CHANGED
        assert replaced.words == f"1 of its {named.size} 1m bars of two were replaced by another source's"
    gone = recompute_place(content, at_ms, {**found, "held": found["held"][own[0] + 1 :]}, rules)
    assert (gone.result, gone.words) == (
        RecomputeResult.BARS_GONE,
        f"1 of its {named.size} 1m bars of two are gone",
    )


@pytest.mark.parametrize("count", [5, 30, 70])
@pytest.mark.parametrize("away", [0, 20])
def test_a_place_with_bars_of_one_source_is_decided_once_more_from_those_of_its_own_table(count, away):
    content, at_ms, bars, rules = play(9, count=count, separate=away)
    place = orjson.loads(content)
    named = list_named_bars(place)["held"]
    assert named.is_separate
    assert named.size == min(WINDOW, count)
    held = place["votes"]["held"]
    assert held.get("abstained") == ("too_few_bars" if count < 30 else "expired" if away else None)
    merged = [each for each in bars if each.source != "own"]
    found = gather(content, merged)
    own = [each._replace(source="two") for each in bars if each.source == "own"]
    found["held"] = [each for each in own if named.first_ms <= each.start_ms <= named.last_ms]
    again = recompute_place(content, at_ms, found, rules)
    assert (again.result, again.differences) == (RecomputeResult.SAME, ())
    gone = recompute_place(content, at_ms, {**found, "held": found["held"][1:]}, rules)
    assert (gone.result, gone.words) == (
        RecomputeResult.BARS_GONE,
        f"1 of its {named.size} 1m bars of two are gone",
    )


def test_a_truth_that_is_gone_or_is_another_is_named():
    content, at_ms, bars, rules = play(5)
    found = recompute_place(content, at_ms, gather(content, bars), None)
    assert found.result is RecomputeResult.TRUTH_GONE
    other = replace(rules, consensus=replace(rules.consensus, weights={"trend": 1}))
    found = recompute_place(content, at_ms, gather(content, bars), other)
    assert (found.result, "names the voters away, breakout" in found.words) == (
        RecomputeResult.TRUTH_OTHER,
        True,
    )


def test_other_weights_and_a_false_place_come_out_otherwise_and_name_the_fields():
    content, at_ms, bars, rules = play(5)
    heavier = replace(rules, consensus=replace(rules.consensus, weights={**WEIGHTS, "trend": 400}))
    found = recompute_place(content, at_ms, gather(content, bars), heavier)
    assert found.result is RecomputeResult.DIFFERENT
    assert {"score", "confidence", "participation"} <= set(found.differences)
    place = orjson.loads(content)
    false = {**place, "votes": {**place["votes"], "trend": {"abstained": "late"}}}
    text = make_place(SYMBOL, PlaceOutcome(place["outcome"]), **{
        name: value for name, value in false.items() if name not in ("v", "symbol", "outcome")
    })  # fmt: skip
    found = recompute_place(text, at_ms, gather(content, bars), rules)
    assert any(each.startswith("votes.trend") for each in found.differences)


def test_a_place_that_no_vote_made_is_explained_without_them():
    closed = make_place(SYMBOL, PlaceOutcome.CLOSED, since=9)
    assert recompute_place(closed, START, {}, None).result is RecomputeResult.SAME
    failed = make_place(SYMBOL, PlaceOutcome.FAILED, tick=9, as_of=START, before="flat", why="KeyError")
    found = recompute_place(failed, START, {}, RULES)
    assert (found.result, found.words) == (RecomputeResult.NOT_DECIDED, "it failed: KeyError")
