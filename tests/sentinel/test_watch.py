"""What the sentinel takes from the truth."""

import orjson

from marketswarm.truth import parse_truth
from sentinel.watch import count_services


def truth(services, heard=()):
    points = [{"bus": "system-redis", "key": channel} for channel in heard]
    healer = {"heartbeat": {"interval_sec": 10}, "access_points": {"subscribe_to": points}}
    return parse_truth(orjson.dumps({"services": {**services, "healer": healer}})).truth


def test_the_log_of_alerts_is_for_every_service_that_the_healer_watches():
    plain = {"heartbeat": {"interval_sec": 10}}
    unwatched = {"heartbeat": {"interval_sec": 10, "monitored": False}}
    fleet = {"a": plain, "b": plain, "c": unwatched}
    for services, heard in [({}, ()), (fleet, ()), (fleet, ["d:heartbeat", "e:heartbeat", "f:heartbeat"])]:
        found = truth(services, heard)
        watched = len(found.watched())
        assert watched <= count_services(found) <= watched + len({"healer", "c"})
