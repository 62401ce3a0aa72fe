"""A machine that dies with all its services is one message, and so is its return, in part or whole."""

import pytest

from marketswarm.channels import MessageKind
from marketswarm.event import Kind
from notifier.router.grouping import NOTICES_AT_MOST
from support.simulation.router import Town

DAY_SEC = 86_400.0
FLEET = ("a", "b", "c", "d", "e", "x", "y")
DB1 = ("a", "b", "c", "d", "e")


def lose(town: Town, services: tuple[str, ...] = DB1, host: str = "db1", left: int = 0) -> None:
    """All services of a machine are missed at once; `left` others of it stay up."""
    for number, svc in enumerate(services, 1):
        town.down(svc, host=host, host_up=left + len(services) - number)


def first_lines(town: Town) -> tuple[str, str]:
    return town.last().title, town.last().text.splitlines()[0]


@pytest.fixture
def town():
    return Town(FLEET)


@pytest.fixture
def bereft(town):
    """A fleet that was told of the end of db1."""
    lose(town)
    town.run(3)
    return town


def test_a_machine_that_dies_with_all_its_services_is_one_message(town):
    begun = town.now
    lose(town)
    town.run(3)
    assert town.titles() == ["machine db1 is gone: 5 services (a, b, c and 2 more)"]
    message = town.last()
    assert message.text.splitlines() == [
        "a, b, c, d, e",
        "since 2025-11-06 12:50:27 UTC on db1",
        "next: marketswarm status --by host",
    ]
    assert [line.split(":")[0] for line in message.lines] == [f"{svc} is down" for svc in DB1]
    assert (message.kind, message.opens) == (MessageKind.GROUP, True)
    assert town.messages[0][0] - begun <= town.policy.group_wait_sec, "no later than any group"


def test_a_machine_on_which_something_is_up_is_not_gone(town):
    lose(town, ("a", "b"), left=1)
    town.run(3)
    assert town.titles() == ["2 services are down"]


def test_one_service_alone_is_no_machine(town):
    town.down("a", host="db1", host_up=0)
    town.run(3)
    assert town.titles() == ["a is down"]
    lose(town, ("b", "c"), host="web1")
    town.down("x", host="web2", host_up=0)
    town.run(3)
    assert town.titles()[1:] == ["machine web1 is gone: 2 services (b, c); x is down"]


def test_services_on_several_hosts_are_on_none(town):
    for svc in "ab":
        town.down(svc, host="db1")  # a healer that counts nothing, as of a service on several
    town.run(3)
    assert town.titles() == ["2 services are down"]


def test_a_service_that_came_back_after_the_last_miss_disproves_it(town):
    lose(town)
    town.now += 0.1
    town.up("b", host="db1")
    town.run(3)
    [title] = town.titles()
    assert title == "4 services are down, 1 was down, and is up again"


def test_a_service_that_moved_away_before_the_last_miss_is_on_it_no_more(town):
    town.down("a", host="db1", host_up=2)
    town.now += 0.1
    town.up("a", host="web1")
    town.now += 0.1
    town.down("b", host="db1", host_up=1)
    town.down("c", host="db1", host_up=0)
    town.run(3)
    assert town.titles() == ["machine db1 is gone: 2 services (b, c); a was down for 30.1 s, and is up again"]


def test_what_is_down_on_another_machine_is_told_beside_it(town):
    lose(town)
    town.down("x", host="web1", host_up=4)
    town.down("y", host="web1", host_up=3)
    town.run(3)
    title, text = first_lines(town)
    assert title == "machine db1 is gone: 5 services (a, b, c and 2 more); 2 services are down"
    assert text == "a, b, c, d, e; x, y"
    assert [line.split(" is down")[0] for line in town.last().lines] == [*DB1, "x", "y"]


def test_several_machines_are_one_message_that_counts_the_services_of_each(town):
    lose(town)
    lose(town, ("x", "y"), host="web1")
    town.run(3)
    assert first_lines(town) == (
        "2 machines are gone: db1 (5 services), web1 (2 services)",
        "on db1: a, b, c, d, e; on web1: x, y",
    )


def test_what_depends_on_a_service_of_it_stands_below_it_and_its_own_services_stand_alone():
    town = Town({"a": {}, "b": {"depends_on": ["a"]}, "x": {"depends_on": ["b"]}})
    lose(town, ("a", "b"))
    town.down("x", host="web1", host_up=4)
    town.run(3)
    title, text = first_lines(town)
    assert (title, text) == (
        "machine db1 is gone: 2 services (a, b), and 1 that depends on them",
        "a, b; with it x",
    )
    assert [line.split(":")[0] for line in town.last().lines] == [
        "a is down, and 1 that depends on it",
        "x is down",
        "b is down",
    ]


def test_its_return_is_one_message_that_closes_the_conversation(bereft):
    for svc in DB1:
        bereft.up(svc, host="db1")
    bereft.run(3)
    assert bereft.titles()[1:] == ["machine db1 is back: 5 services are up again (a, b, c and 2 more)"]
    assert bereft.last().closes == (bereft.messages[0][1].id,)
    assert len(bereft.last().lines) == 5


def test_a_return_in_part_says_who_is_still_down_and_the_last_ones_say_that_it_is_whole(bereft):
    bereft.up("b", host="db1")
    bereft.run(3)
    assert first_lines(bereft) == (
        "machine db1 is back in part: 1 service is up again (b), 4 are still down",
        "on db1: b; still down: a, c, d, e",
    )
    assert [line.split(",")[0] for line in bereft.last().lines] == ["b is up again"]
    for svc in "acd":
        bereft.up(svc, host="db1")
    bereft.run(3)
    assert bereft.last().title == (
        "machine db1 is back in part: 3 services are up again (a, c, d), 1 is still down"
    )
    assert not bereft.last().closes
    bereft.up("e", host="db1")
    bereft.run(3)
    assert bereft.last().title == "machine db1 is back: 1 service is up again (e)"
    assert bereft.last().closes == (bereft.messages[0][1].id,)


def test_a_machine_is_back_in_part_alone_while_one_is_down_whose_outages_its_message_summed_up():
    town = Town(FLEET, rate_limit_sec=60)
    town.down("d", host="db1", host_up=3)
    town.run(5)
    town.up("d", host="db1")
    town.run(5)
    town.down("d", host="db1", host_up=3)  # held back
    town.run(town.messages[0][0] + 59.9 - town.now)
    lose(town, ("a", "b", "c"))
    town.run(5)
    assert town.titles()[2:] == ["machine db1 is gone: 3 services (a, b, c); d went down again and again"]
    for svc in ("a", "b", "c"):
        town.up(svc, host="db1")
    town.run(5)
    assert town.titles()[3:] == [
        "machine db1 is back in part: 3 services are up again (a, b, c), 1 is still down"
    ]
    town.up("d", host="db1")
    town.run(5)
    assert town.titles()[4:] == ["machine db1 is back: 1 service is up again (d)"]


def test_services_that_come_back_elsewhere_do_not_bring_the_machine_back(bereft):
    for svc in "ab":
        bereft.up(svc, host="web1")
    bereft.run(3)
    assert bereft.last().title == "2 services are up again"


def test_a_restarted_notifier_knows_whose_services_they_are(bereft):
    bereft.restart()
    for svc in DB1:
        bereft.up(svc, host="db1")
    bereft.run(3)
    assert bereft.last().title.startswith("machine db1 is back: 5 services")


def test_the_next_outage_of_a_service_of_it_is_its_own(bereft):
    for svc in DB1:
        bereft.up(svc, host="db1")
    bereft.run(600)
    bereft.down("a", host="db1", host_up=4)
    bereft.run(3)
    bereft.up("a", host="db1")
    bereft.run(3)
    assert bereft.titles()[2:] == ["a is down", "a is up again"]


def test_a_silenced_service_of_it_is_not_named_and_hides_no_machine():
    town = Town(FLEET)
    town.be_silent("c", sec=3600)
    lose(town)
    town.run(3)
    assert town.titles() == ["machine db1 is gone: 4 services (a, b, d and 1 more)"]
    assert not any(line.startswith("c ") for line in town.last().lines)


def test_a_lost_bus_and_a_healer_say_nothing_of_a_machine(town):
    town.down("healer", Kind.HEALER_MISS, host="db1", host_up=0)
    town.down("a", host="db1", host_up=3)
    town.down("b", host="db1", host_up=2)
    town.run(3)
    assert town.titles() == ["3 services are down"]


def test_routes_send_to_each_channel_what_is_its_own():
    routes = ({"services": ["e"], "channels": ["two"]}, {"channels": ["one"]})
    town = Town(FLEET, channels=("one", "two"), routes=routes)
    lose(town)
    town.run(3)
    assert town.titles("one") == ["machine db1 is gone: 4 services (a, b, c and 1 more)"]
    assert town.titles("two") == ["e is down"]


def test_a_reminder_says_that_the_machine_is_still_gone_and_since_when(bereft):
    bereft.run(1000)
    assert bereft.titles()[1:] == ["machine db1 is still gone: 5 services (a, b, c and 2 more)"]
    message = bereft.last()
    assert message.text.splitlines() == [
        "on db1 since 2025-11-06 12:50:27 UTC: a, b, c, d, e",
        "since 2025-11-06 12:50:27 UTC on db1",
        "next: marketswarm status --by host",
    ]
    assert (message.kind, len(message.lines)) == (MessageKind.REMINDER, 5)


def test_reminders_of_several_machines_say_since_when_each_is_gone(town):
    lose(town)
    town.now += 1.0
    lose(town, ("x", "y"), host="web1")
    town.run(1000)
    assert first_lines(town) == (
        "2 machines are still gone: db1 (5 services), web1 (2 services)",
        "on db1 since 2025-11-06 12:50:27 UTC: a, b, c, d, e; on web1 since 2025-11-06 12:50:28 UTC: x, y",
    )


@pytest.mark.parametrize("is_told", [True, False])
def test_a_reminder_says_nothing_of_a_machine_on_which_a_service_came_back_however_long_ago(is_told):
    town = Town(FLEET)
    if not is_told:
        town.be_silent("c", sec=14 * DAY_SEC)
    lose(town)
    town.run(3)
    assert town.last().title.startswith("machine db1 is gone")
    town.up("c", host="db1")
    town.run(4 * DAY_SEC)
    reminders = [title for title in town.titles() if "still" in title and "back" not in title]
    assert len(reminders) > 4
    assert set(reminders) == {"4 services are still down"}


def test_an_escalation_of_a_machine_says_that_nobody_has_acknowledged_it():
    town = Town(FLEET, channels=("one", "two"), escalate=({"after_sec": 120, "channels": ["two"]},))
    lose(town)
    town.run(300)
    assert town.titles()[1:] == ["5 services are down and not acknowledged"]


def test_the_end_of_a_long_silence_shows_no_machine_to_be_gone_now():
    """What came back since is forgotten after a day, so an old miss says nothing of the machine."""
    town = Town(FLEET)
    town.be_silent("d", "e", sec=7 * DAY_SEC)
    lose(town)
    town.run(3)
    for svc in "abc":
        town.up(svc, host="db1")
    town.run(3)
    town.now += 7 * DAY_SEC - 60
    town.run(120)
    assert town.titles()[-1] == "2 services are down"


def test_a_machine_whose_services_fill_several_messages_is_back_in_part_while_one_of_them_is_down():
    names = tuple(f"svc{number:03}" for number in range(NOTICES_AT_MOST + 2))
    town = Town(names)
    lose(town, names)
    town.run(3)
    assert [title.partition(" (")[0] for title in town.titles()] == [
        "machine db1 is gone: 500 services",
        "machine db1 is gone: 2 services",
    ]
    for svc in names[:NOTICES_AT_MOST]:
        town.up(svc, host="db1")
    town.run(3)
    assert town.last().title.startswith("machine db1 is back in part: 500 services are up again (")
    assert town.last().title.endswith("), 2 are still down")


def test_what_another_channel_was_told_of_a_machine_is_not_still_down_on_this_one():
    routes = ({"services": ["d", "e"], "channels": ["two"]}, {"channels": ["one"]})
    town = Town(FLEET, channels=("one", "two"), routes=routes)
    lose(town)
    town.run(3)
    for svc in "abc":
        town.up(svc, host="db1")
    town.run(3)
    assert town.titles("one")[1:] == ["machine db1 is back: 3 services are up again (a, b, c)"]


def test_a_hostile_name_of_a_host_stays_on_one_line(town):
    lose(town, ("a", "b"), host="db1\nfake: all is well")
    town.run(3)
    assert "\n" not in town.last().title
    assert not any(line.startswith("fake") for line in town.last().text.splitlines())
