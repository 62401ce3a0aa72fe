from dataclasses import replace
from typing import Annotated, Literal

import pytest
from pydantic import Field

from marketswarm.agent.own import Own, own_part, read_own, unknown_keys
from marketswarm.exit import Exit
from marketswarm.truth import Heartbeat, Service


class Wishes(Own):
    poll_sec: Annotated[float, Field(gt=0)] = 60.0


class Section(Own):
    settings: Wishes = Wishes()


def section(**settings):
    return Service(heartbeat=Heartbeat(channel="a:heartbeat"), settings=settings)


def test_what_is_not_said_has_a_default_and_what_is_unknown_is_left_alone():
    assert own_part(Section, "a", section(other=1)).settings.poll_sec == 60.0
    assert own_part(Section, "a", section(poll_sec=5)).settings.poll_sec == 5.0


class Lamp(Own):
    kind: Literal["lamp"]
    watt: int = 5


class Fan(Own):
    kind: Literal["fan"]
    blades: int = 3


class Room(Own):
    name: str
    things: tuple[Annotated[Lamp | Fan, Field(discriminator="kind")], ...] = ()


class House(Own):
    settings: Wishes = Wishes()
    endpoints: tuple[Room, ...] = ()


def house(*rooms, **settings):
    return Service(heartbeat=Heartbeat(channel="a:heartbeat"), endpoints=list(rooms), settings=settings)


def test_unknown_keys_are_named_at_any_depth_with_what_was_probably_meant():
    said = house(
        {"name": "hall", "nmae": 1, "things": [{"kind": "lamp"}, {"kind": "fan", "blade": 4}]},
        poll_sex=3,
        other={"deep": 1},
    )
    own, problems = read_own(House, "a", said)
    assert problems == []
    assert [str(each) for each in unknown_keys(own, "a", said)] == [
        'services.a.settings.poll_sex: is not a known key (did you mean "poll_sec"?)',
        "services.a.settings.other: is not a known key (known: poll_sec)",
        'services.a.endpoints[0].nmae: is not a known key (did you mean "name"?)',
        'services.a.endpoints[0].things[1].blade: is not a known key (did you mean "blades"?)',
    ]


def test_a_part_that_the_model_does_not_have_is_not_looked_at():
    said = section(poll_sec=1)
    own, _ = read_own(Section, "a", replace(said, endpoints=[{"x": 1}]))
    assert unknown_keys(own, "a", replace(said, endpoints=[{"x": 1}])) == []


def test_a_branch_of_a_union_is_no_part_of_a_path():
    _, problems = read_own(House, "a", house({"name": "hall", "things": [{"kind": "lamp", "watt": "x"}]}))
    assert [each.path for each in problems] == ["services.a.endpoints[0].things[0].watt"]


def test_all_mistakes_are_named_at_once():
    _, problems = read_own(House, "a", house({}, {"name": 3}, "x", poll_sec=-5))
    assert [str(each) for each in problems] == [
        "services.a.settings.poll_sec: -5 is not more than 0",
        "services.a.endpoints[0].name: missing",
        "services.a.endpoints[1].name: 3 is not text",
        "services.a.endpoints[2]: text is not an object",
    ]


def test_a_mistake_is_named_with_its_path_and_without_its_value():
    with pytest.raises(Exit, match=r"services\.a\.settings\.poll_sec: ") as caught:
        own_part(Section, "a", section(poll_sec="hunter2"))
    assert caught.value.code == 2
    assert "hunter2" not in caught.value.message
