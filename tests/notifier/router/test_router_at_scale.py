"""Thousands of outages at once: what is due of them is found without a look at all of them each time."""

from support.simulation.router import Town

MANY = 3000


def down(town):
    """Takes all services down as one reader's batch does: without a turn after each."""
    for svc in town.truth.services:
        if svc != "healer":
            event, raw = town.event("heartbeat_miss", svc, late_sec=30.0, since=town.now - 30)
            town.router.handle_event(event, raw, town.now)


class Counted(dict):
    """A dictionary that counts how often all of it was gone through."""

    times = 0

    def values(self):
        self.times += 1
        return super().values()


def test_many_outages_are_notified_in_short_turns_and_their_reminders_go_through_them_once_a_turn():
    town = Town([f"s{n}" for n in range(MANY)], incidents=(counted := Counted()))
    turns, take_due = [], town.router.take_due

    def counting(*args):
        found = take_due(*args)
        turns.append(sum(len(due.message.about) for due in found))
        return found

    town.router.take_due = counting
    down(town)
    town.run(10)
    assert sum(turns) == MANY
    assert max(turns) <= 2000
    town.messages.clear()
    town.run(900)
    assert sum(len(m.about) for _, m, _ in town.messages if m.kind == "reminder") == MANY
    assert counted.times <= 10, "once for each outage"


def test_what_suffers_from_a_cause_is_named_in_its_reminder_by_an_index():
    town = Town({"db": {}, "api": {"depends_on": ["db"]}, "web": {"depends_on": ["api"]}, "lone": {}})
    town.down("db")
    town.run(10)
    town.down("api")
    town.down("web")
    town.down("lone")
    town.run(910)
    reminders = [message for _, message, _ in town.messages if message.kind == "reminder"]
    assert "with it api, web" in reminders[0].text
    town.up("web")
    town.run(3600 - 900)
    reminders = [m for _, m, _ in town.messages if "with it" in f"{m.text} {m.lines}"]
    assert "with it api" in f"{reminders[-1].text} {reminders[-1].lines}"
    assert "web" not in reminders[-1].text
