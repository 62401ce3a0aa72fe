"""What is said of a bus that did not answer in time."""

import pytest

from marketswarm.bus import BusError
from marketswarm.seeding.answering import wait_until_all_answer
from marketswarm.seeding.looking import Unseeded


class Locked:
    """A bus that asks for a password, where it has the time to say so."""

    name, where = "system-redis", "nowhere"

    def __init__(self, least_sec: float) -> None:
        self.least_sec, self.client = least_sec, self

    def ping(self) -> None:
        """What is asked."""

    async def ask(self, _request: None, within_sec: float) -> None:
        raise BusError(self.name, "auth" if within_sec >= self.least_sec else "timeout")


async def test_a_last_look_that_had_no_time_does_not_hide_why_it_was_silent():
    with pytest.raises(Unseeded, match="auth"):
        await wait_until_all_answer([Locked(least_sec=0.15)], 0.5)


async def test_of_one_that_never_had_the_time_that_is_what_is_said():
    with pytest.raises(Unseeded, match="timeout"):
        await wait_until_all_answer([Locked(least_sec=9.0)], 0.3)
