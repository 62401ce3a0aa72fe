"""Every receiver that keeps something is in the right state at each step of a whole outage.

The messages are those of the real router; the channels are the real ones; the receivers are models of their
protocols (`support.receiver_models`): alerts that are open, groups, threads, mails that answer mails.
"""

import pytest

from marketswarm.event import Kind
from support.receiver_models import Receivers
from support.simulation.router import Town

NAMES = {
    "long": tuple(f"{letter * 62}{letter}" for letter in "abcd"),
    "odd": ("a..b", "c.", "massive/größe-价格-" + "ü" * 40, "source:x"),
}
STEP_SEC = 1.0
SETTLED_SEC = 500  # after so long a service that flapped has settled


class Play:
    """A town whose messages go to two sets of receivers: `one` gets all, `two` what is escalated."""

    def __init__(self, respx_mock, names, **policy):
        self.names = names
        services = {name: {} for name in names if ":" not in name and "/" not in name}
        if len(services) > 3:
            services[names[1]]["severity"] = "critical"
            services[names[3]]["depends_on"] = [names[2]]
        policy = {"rate_limit_sec": 0, "routes": [{"channels": ["one"]}], "remind_sec": (60, 300), **policy}
        self.town = Town(services, ("one", "two"), **policy)
        self.one, self.two = (
            Receivers(respx_mock, "one"),
            Receivers(respx_mock, "two", "Überwachung der Flotte <w@[10.0.0.9]>"),
        )

    def _kind(self, svc, end):
        family = (
            "probe" if svc.startswith("massive/") else "source" if svc.startswith("source:") else "heartbeat"
        )
        return Kind(f"{family}_{end}")

    def down(self, *at):
        for svc in (self.names[n] for n in at):
            self.town.down(svc, self._kind(svc, "miss"))

    def up(self, *at):
        for svc in (self.names[n] for n in at):
            self.town.up(svc, self._kind(svc, "ok"))

    def drop(self, *at):
        for svc in (self.names[n] for n in at):
            self.town.take(*self.town.event(self._kind(svc, "unwatched"), svc))

    async def run(self, sec, *, escalated=False):
        """Let time pass, and look whenever there was a message."""
        end = self.town.now + sec
        while self.town.now < end:
            if self.town.run(min(STEP_SEC, end - self.town.now)) or self.town.now >= end:
                for receivers in (self.one, self.two):
                    await receivers.follow(self.town)
                self.one.check(self.town)
        if escalated:
            self.two.check(self.town)


async def alone(play):
    play.down(0)
    await play.run(70)
    play.up(0)


async def some_recover_first(play):
    play.down(0, 1, 2)
    await play.run(5)
    play.up(0)
    await play.run(70)
    play.up(1)
    await play.run(5)
    play.up(2)


async def others_join_and_all_recover_at_once(play):
    play.down(0, 1)
    await play.run(5)
    play.down(2)
    await play.run(5)
    play.down(3)
    await play.run(70)
    play.up(0)
    play.up(2)
    await play.run(5)
    play.down(0)
    play.up(1, 3)
    await play.run(5)
    play.up(0)


async def two_are_escalated_at_once(play):
    play.down(0, 1)
    await play.run(5)
    play.down(2)
    await play.run(5)
    play.town.now += 40  # no notifier ran
    play.town.restart()
    await play.run(5, escalated=True)
    play.up(0)
    await play.run(5, escalated=True)
    play.up(1, 2)


async def it_flaps_and_settles(play):
    play.down(0, 1)
    await play.run(5)
    for _ in range(8):
        play.up(0)
        await play.run(3)
        play.down(0)
        await play.run(3)
    await play.run(SETTLED_SEC)
    play.up(1)
    await play.run(5)
    play.up(0)


async def it_leaves_the_truth(play):
    play.down(0, 1, 2)
    await play.run(5)
    play.drop(0, 1)
    await play.run(5)
    play.up(2)


async def it_is_over_before_anybody_is_told(play):
    play.down(0)
    play.up(0)
    await play.run(5)
    play.down(1)
    play.up(1)
    play.down(2)


async def its_notifier_restarts(play):
    play.down(0, 1, 2)
    await play.run(5)
    play.up(0)
    await play.run(5)
    play.town.restart()
    await play.run(70)
    play.up(1)
    await play.run(1)
    play.town.restart()
    play.up(2)


STORIES = (
    alone,
    some_recover_first,
    others_join_and_all_recover_at_once,
    two_are_escalated_at_once,
    it_flaps_and_settles,
    it_leaves_the_truth,
    it_is_over_before_anybody_is_told,
    its_notifier_restarts,
)


@pytest.mark.parametrize("names", NAMES.values(), ids=NAMES)
@pytest.mark.parametrize("story", STORIES, ids=lambda story: story.__name__)
async def test_what_is_open_at_each_receiver_is_what_lasts(respx_mock, story, names):
    more = (
        {"escalate": [{"after_sec": 30, "channels": ["two"]}]} if story is two_are_escalated_at_once else {}
    )
    play = Play(respx_mock, names, **more)
    await story(play)
    await play.run(10)
    for n in range(len(names)):
        play.up(n)
    await play.run(SETTLED_SEC if story is it_flaps_and_settles else 5)
    for receivers in (play.one, play.two):
        assert not receivers.pagerduty.open
        assert not receivers.pushover.ringing
        assert not receivers.alertmanager.firing
        assert "firing" not in receivers.alertmanager.groups.values()
