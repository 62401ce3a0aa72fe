"""What massive tells of its targets is told as the news of services is: severity, silences, causes, ends."""

import pytest

from marketswarm.event import Kind
from notifier.router.incident import Decision
from support.simulation.router import Town

TARGETS = [
    {"name": "names", "kind": "dns", "host": "shop.example"},
    {"name": "shop", "url": "https://shop.example/", "severity": "critical", "depends_on": ["massive/names"]},
    {"name": "db", "host": "db.example", "port": 5432, "tags": ["storage"], "depends_on": ["b"]},
    {"name": "market", "bus": "market-redis", "alert": True},
]
MASSIVE = {"tags": ["outside"], "settings": {"targets": TARGETS}}
MISS, OK = Kind.PROBE_MISS, Kind.PROBE_OK


def town(**policy):
    return Town({"a": {}, "b": {}, "massive": MASSIVE}, **policy)


def test_a_loss_and_its_end_are_told_in_one_thread():
    place = town()
    assert place.down("massive/shop", MISS) is Decision.TELL
    place.run(3)
    down = place.last()
    place.run(60)
    assert place.up("massive/shop", OK) is Decision.TELL
    place.run(3)
    up = place.last()
    assert place.titles() == ["massive/shop is down", "massive/shop is up again"]
    assert down.text.splitlines()[0] == "its probes have failed for 30 s (silent)"
    assert (up.thread, up.closes) == (down.id, (down.id,))


def test_it_matters_as_much_as_the_truth_says():
    place = Town({"massive": {**MASSIVE, "severity": "info"}})
    found = {}
    for name in ("shop", "db", "nobody-knows"):
        place.down(f"massive/{name}", MISS)
        place.run(3)
        found[name] = place.last().severity.value
    assert found == {"shop": "critical", "db": "info", "nobody-knows": "warning"}


@pytest.mark.parametrize(
    ("names", "tags"),
    [(["massive/db"], []), (["massive/*"], []), (["*/db"], []), ([], ["storage"]), ([], ["outside"])],
)
def test_it_can_be_silenced_by_name_by_its_tags_and_those_of_massive(names, tags):
    place = town()
    place.be_silent(*names, tags=tags, sec=3600)
    assert place.down("massive/db", MISS) is Decision.SILENCED
    place.run(60)
    assert place.titles() == []
    place.run(3600)
    assert place.titles() == ["massive/db is down"]


def test_a_silence_on_massive_itself_is_none_on_its_targets():
    place = town()
    place.be_silent("massive", sec=3600)
    assert place.down("massive/shop", MISS) is Decision.TELL


@pytest.mark.parametrize(
    ("cause", "target"), [(("massive/names", MISS), "massive/shop"), (("b",), "massive/db")]
)
def test_what_depends_on_a_target_or_a_service_that_is_down_is_not_told(cause, target):
    place = town()
    place.down(*cause)
    place.run(3)
    assert place.down(target, MISS) is Decision.DEPENDS
    place.run(600)
    assert place.titles() == [f"{cause[0]} is down"]


def test_a_bus_that_is_a_target_too_is_one_outage():
    place = town()
    place.down("market-redis", Kind.BUS_MISS)
    place.run(3)
    assert place.down("massive/market", MISS) is Decision.DEPENDS
    place.run(1000)
    assert place.titles()[0] == "bus market-redis is away"
    assert not any("massive/market is down" in title for title in place.titles())
    assert place.last().text.splitlines()[0].endswith("with it massive/market")


def test_one_that_is_no_longer_probed_is_closed():
    place = town()
    place.down("massive/shop", MISS)
    place.run(3)
    assert place.up("massive/shop", Kind.PROBE_UNWATCHED) is Decision.TELL
    place.run(3)
    assert place.titles() == ["massive/shop is down", "massive/shop is no longer probed"]
    assert place.router.open_incidents() == []


def test_one_that_is_no_longer_probed_before_anybody_was_told_did_not_come_back():
    place = town()
    place.down("massive/shop", MISS)
    place.up("massive/shop", Kind.PROBE_UNWATCHED)
    place.run(3)
    assert place.titles() == ["massive/shop is no longer probed"]


def test_a_route_may_be_for_targets_alone():
    place = Town(
        {"a": {}, "massive": MASSIVE},
        channels=("one", "two"),
        routes=[{"services": ["massive/*"], "channels": ["two"]}],
    )
    place.down("massive/shop", MISS)
    place.down("a")
    place.run(3)
    assert (place.titles("two"), place.titles("one")) == (
        ["massive/shop is down", "a is down"],
        ["a is down"],
    )


def test_a_service_and_a_target_of_the_same_name_are_two_things():
    place = Town({"shop": {}, "massive": MASSIVE})
    place.down("shop")
    place.down("massive/shop", MISS)
    assert [each.key for each in place.router.open_incidents()] == ["shop", "massive/shop"]
    assert place.router.acknowledge("massive/shop", "ada") == ["massive/shop"]


def test_what_is_known_of_it_outlives_a_restart():
    place = town()
    place.down("massive/shop", MISS)
    place.run(3)
    place.restart()
    assert place.up("massive/shop", OK) is Decision.TELL
    place.run(3)
    assert place.titles() == ["massive/shop is down", "massive/shop is up again"]
