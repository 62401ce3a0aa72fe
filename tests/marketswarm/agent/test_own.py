from typing import Annotated

import pytest
from pydantic import Field

from marketswarm.agent.own import Own, own_part
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


def test_a_mistake_is_named_with_its_path_and_without_its_value():
    with pytest.raises(Exit, match=r"services\.a\.settings\.poll_sec: ") as caught:
        own_part(Section, "a", section(poll_sec="hunter2"))
    assert caught.value.code == 2
    assert "hunter2" not in caught.value.message
