"""What massive's probes say: a single slow answer is a spike, and what is not a result is not known."""

import orjson
import pytest

from marketswarm.detector import State
from marketswarm.monitor.roster_entry import RosterEntry
from marketswarm.status.fleet_state import FleetState
from marketswarm.status.probe_past import parse_reading
from marketswarm.testing import MemoryBus
from marketswarm.truth import parse_truth
from services.massive.probes.result import ProbeFinding, ProbeResult
from services.medic.metric import Metric
from services.medic.observer import FleetObservation
from services.medic.rule import list_probes_by_service
from services.medic.rules.probes import ProbeObserver

TARGETS = [{"name": name, "url": "https://a.example"} for name in ("shop", "db")]
TRUTH = parse_truth(orjson.dumps({"services": {"massive": {"settings": {"targets": TARGETS}}}})).truth


def seen(verdict=State.UP):
    return FleetObservation(TRUTH, FleetState(roster={"massive": RosterEntry(verdict)}), (), (), None, 1000.0)


def result(ts, ms=100.0, error=None, target="shop", **facts):
    found = ProbeResult("https", "a.example", error=error, ms={"total": ms}, facts=facts)
    return ProbeFinding(target, ts, found).encode()


@pytest.fixture
def observer():
    return ProbeObserver()


def look(observer, **raws):
    parsed = {name: parse_reading(name, raw) for name, raw in raws.items()}
    return observer.note_results({name: each for name, each in parsed.items() if each is not None})


def read_sec(observer, raw):
    return look(observer, shop=raw)[Metric.PROBE_SEC].get("shop")


def test_a_target_is_slow_if_two_answers_in_a_row_are(observer):
    found = [read_sec(observer, result(ts, ms)) for ts, ms in [(1, 5000), (1, 5000), (2, 100), (3, 3000)]]
    assert found == [None, None, 0.1, 0.1]
    assert read_sec(observer, result(4, 2000)) == 2.0
    assert read_sec(observer, result(4, 2000)) == 2.0, "one result that is read twice is no second one"
    assert read_sec(observer, result(5, 9000, "timeout")) is None
    assert read_sec(observer, result(6, 9000)) is None, "after a failure it begins anew"


def test_a_failure_and_a_certificate_are_known_by_the_last_result(observer):
    found = look(observer, shop=result(1, days_left=6.5), db=result(1, error="refused", target="db"))
    assert found[Metric.PROBE_FAILING] == {"shop": 0, "db": 1}
    assert found[Metric.CERTIFICATE_DAYS] == {"shop": 6.5, "db": None}
    assert look(observer, shop=result(2, days_left=-3))[Metric.CERTIFICATE_DAYS] == {"shop": -3}


def test_the_last_two_answers_in_a_row_say_when_their_probes_began(observer):
    begun = []
    for found in (result(1), result(1), result(2), result(3), result(4, error="refused"), result(5)):
        look(observer, shop=found)
        begun.append(observer.list_begun("shop"))
    assert begun == [(1,), (1,), (1, 2), (2, 3), (), (5,)]
    assert observer.list_begun("db") == ()


@pytest.mark.parametrize(
    "raw",
    [
        None,
        b"junk",
        b"[]",
        result(1, target="other"),
        b'{"target":"shop","ok":1,"ts":1,"total_ms":1}',
        b'{"target":"shop","ok":"true","ts":"1","total_ms":"1","days_left":"1"}',
        b'{"target":"shop","ts":1e99,"total_ms":-1,"days_left":1e99}',
        b'{"target":"shop","ok":[],"ts":[],"total_ms":{},"days_left":true}',
    ],
)
def test_what_is_no_result_of_the_target_is_not_known(observer, raw):
    read_sec(observer, result(1))
    for readings in look(observer, shop=raw).values():
        assert readings.get("shop") is None


def test_a_probe_shows_whether_the_services_work_on_which_its_target_depends():
    targets = [
        {"name": "shop", "depends_on": ["feed", "bus:system-redis"]},
        {"name": "db", "depends_on": ["feed"]},
        {"name": "net"},
    ]
    services = {"massive": {"settings": {"targets": targets}}, "feed": {}}
    truth = parse_truth(orjson.dumps({"services": services})).truth
    assert list_probes_by_service(truth)["feed"] == ["shop", "db"]


async def test_results_are_read_while_massive_is_up(observer):
    bus = MemoryBus()
    await bus.client.set("probe:shop", result(1, error="refused"))
    await bus.client.hset("probe:db", "a", "b")
    found = await observer.read(seen(), lambda _name: bus)
    assert found[Metric.PROBE_FAILING] == {"shop": 1}
    assert not any((await observer.read(seen(State.DOWN), lambda _name: bus)).values())
    bus.connected = False
    assert not any((await observer.read(seen(), lambda _name: bus)).values())
