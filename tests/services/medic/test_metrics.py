"""The medic's metrics: what it asked of each kind of owner."""

from collections import Counter
from types import SimpleNamespace

from services.medic.facts import RestartOwner
from services.medic.loop import collect_metrics


def test_requests_to_an_engine_and_to_systemd_are_counted_apart():
    medic = SimpleNamespace(
        planner=SimpleNamespace(repairs={}, fuse=SimpleNamespace(blown_at=None)),
        rules=SimpleNamespace(holding={}, names=(), alerts=SimpleNamespace(published={})),
        entries={}, orders={}, second_tier=None, is_leading=True, round_sec=0.1,
        owners=[
            SimpleNamespace(restarts_for={kind}, requests=Counter({("list", "ok"): count}))
            for kind, count in ((RestartOwner.UP, 7), (RestartOwner.ENGINE, 2), (RestartOwner.SYSTEMD, 3))
        ],
    )  # fmt: skip
    found = {each.name: list(each.values) for each in collect_metrics(medic, SimpleNamespace(seen={}))}
    assert found["marketswarm_medic_engine_requests_total"] == [(("list", "ok"), 2.0)]
    assert found["marketswarm_medic_systemd_requests_total"] == [(("list", "ok"), 3.0)]
