"""Runs the example of the page on sharing, as it is shown, three times at once."""

import json

import pytest

from support.pages import ROOT, blocks
from support.rig import Fleet, Proc
from support.waiting import until

PAGE = ROOT / "docs" / "services" / "sharing.md"

pytestmark = pytest.mark.live


def last(service, event, fact):
    said = service.logs(event)
    return said[-1][fact] if said else None


def test_three_of_the_example_share_the_symbols_and_one_of_them_writes_the_report(tmp_path):
    [truth], [source] = blocks(PAGE, "json"), blocks(PAGE, "python")
    document = json.loads(truth)
    symbols = sorted(document["services"]["prices"]["settings"]["symbols"])
    (tmp_path / "prices.py").write_text(source, encoding="utf-8")
    with Fleet(tmp_path, document, tail=False) as fleet:
        env = {**fleet.env, "PYTHONPATH": str(tmp_path)}
        with Proc("prices", env, tmp_path) as one, Proc("prices", env, tmp_path) as two:
            with Proc("prices", env, tmp_path) as three:
                until(lambda: shared(one, two, three) == symbols, what="three shares")
                until(lambda: reports(one, two, three), what="a report")
                assert three.stop() == 0
            until(lambda: shared(one, two) == symbols, what="two shares")
            until(lambda: reports(one, two), what="a report")
            fences = reports(one, two, three)
            assert len(fences) == len(set(fences)), "two of them led at once"
            assert one.stop() == two.stop() == 0


def shared(*services):
    """The symbols of all of them, once each of them knows of all."""
    if any(last(each, "share.changed", "members") != len(services) for each in services):
        return None
    return sorted(symbol for each in services for symbol in last(each, "prices.read", "symbols") or ())


def reports(*services):
    """The fences of the reports, each once for each service that wrote by it."""
    return [fence for each in services for fence in {line["fence"] for line in each.logs("report.written")}]
