import orjson
import pytest

from marketswarm.agent.finding import Found, Seen, first
from marketswarm.agent.following import choose
from marketswarm.testing import MemoryBus
from marketswarm.truth import load


def loaded(interval_sec):
    return load(
        orjson.dumps({"services": {"a": {"heartbeat": {"interval_sec": interval_sec, "timeout_sec": 99}}}})
    )


OLD, NEW = loaded(1), loaded(2)


@pytest.fixture
async def buses():
    both = MemoryBus("system-redis"), MemoryBus("market-redis")
    yield both
    for bus in both:
        await bus.aclose()


@pytest.fixture
def decide(buses):
    """What `choose` says when OLD is in force; each bus holds (document, revision), or a reason."""

    def see(bus, held):
        if isinstance(held, str):
            return Seen(bus, None, held)
        return Seen(bus, Found(held[0], held[1], bus))

    def decided(*held, revision=5):
        choice = choose(
            Found(OLD, revision, buses[0]), [see(bus, one) for bus, one in zip(buses, held, strict=True)]
        )
        found = choice.found
        return (found and (found.loaded is NEW, found.revision), choice.trouble)

    return decided


def test_the_same_on_both_changes_nothing(decide):
    assert decide((OLD, 5), (OLD, 5)) == (None, None)


def test_a_new_one_on_the_first_bus_is_put_in_force_whatever_its_revision(decide):
    assert decide((NEW, 6), (OLD, 5)) == ((True, 6), None)
    assert decide((NEW, 1), (OLD, 5)) == ((True, 1), None)
    assert decide((NEW, None), (OLD, 5)) == ((True, None), None)


def test_the_same_bytes_under_a_new_revision_are_news(decide):
    assert decide((OLD, 7), (OLD, 7)) == ((False, 7), None)
    assert decide((OLD, None), (OLD, 5)) == (None, None)


def test_the_second_bus_is_believed_only_when_it_is_ahead(decide):
    assert decide("has none", (NEW, 6)) == ((True, 6), "truth from market-redis: system-redis has none")
    assert decide("refused", (NEW, 5))[0] is None
    assert decide("refused", (NEW, 4))[0] is None
    assert decide("refused", (NEW, None))[0] is None


def test_the_second_bus_having_the_same_is_a_trouble_all_the_same(decide):
    assert decide("timeout", (OLD, 5)) == (None, "truth from market-redis: system-redis timeout")


def test_a_second_bus_that_lacks_it_is_not_this_agents_trouble(decide):
    assert decide((OLD, 5), "has none") == (None, None)


def test_nothing_anywhere_keeps_the_last_good_one(decide):
    assert decide("has none", "refused") == (
        None,
        "no valid truth: system-redis has none, market-redis refused; revision 5 stays",
    )
    assert decide("x", "y", revision=None)[1] == "no valid truth: system-redis x, market-redis y"


def test_the_first_found_tells_of_those_it_passed(buses):
    system, market = buses
    found = first([Seen(system, None, "has none"), Seen(market, Found(OLD, 3, market))])
    assert found is not None
    assert (found.bus, found.passed) == (market, ("system-redis has none",))
    assert first([Seen(system, None, "x")]) is None
