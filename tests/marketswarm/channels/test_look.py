"""How a message looks: good news is green whatever it mattered before, all else as it matters."""

from dataclasses import replace

import pytest

from marketswarm.channels.look import Look, look_of
from marketswarm.channels.message import Severity, What
from support.channel_messages import MISS, OK


@pytest.mark.parametrize(
    ("severity", "look"),
    [(Severity.INFO, Look.NEWS), (Severity.WARNING, Look.WARNING), (Severity.CRITICAL, Look.ALARM)],
)
def test_what_is_down_looks_as_much_as_it_matters(severity, look):
    for what in (What.DOWN, What.GROUP, What.REMINDER, What.FLAPPING, What.NOTE, What.TEST):
        assert look_of(replace(MISS, what=what, severity=severity)) is look
    for what in (What.UP, What.SETTLED):
        assert look_of(replace(OK, what=what, severity=severity)) is Look.GOOD


def test_no_two_looks_are_told_apart_by_colour_alone():
    assert len({look.sign for look in Look}) == len({look.colour for look in Look}) == len(Look)
