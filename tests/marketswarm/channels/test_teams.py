"""Teams: its limit as Teams counts it."""

import json

import pytest

from marketswarm.channels.teams import CARD_AT_MOST, build_payload
from support.channel_messages import group_of


@pytest.mark.parametrize("name", ["w", '"\\' * 40, "\U0001f4a9" * 1000])
def test_as_many_lines_are_shown_as_fit_the_limit_as_teams_counts_it(name):
    payload = build_payload(group_of([f"{i}{name}" for i in range(2000)]))
    counted = len(json.dumps(json.dumps(payload, separators=(",", ":"))))
    assert CARD_AT_MOST - 1500 < counted <= CARD_AT_MOST
