"""What the beats say of all targets."""

from services.massive.probes.monitor import summarize
from services.massive.probes.result import ProbeFinding, ProbeResult

WELL = ProbeFinding("a", 5.0, ProbeResult("tcp", "h:1"))
ILL = ProbeFinding("b", 5.0, ProbeResult("tcp", "h:2", "tcp", "refused"))
SOON = ProbeFinding("c", 5.0, ProbeResult("tls", "h:3", warning="ends_soon", facts={"days_left": 6.2}))


def latest(*findings):
    return {finding.target: finding for finding in findings}


def test_all_well_is_nothing_to_say():
    assert summarize(1, latest(WELL), {}) is None


def test_the_failing_are_named():
    assert summarize(2, latest(WELL, ILL), {}) == "1 of 2 targets fail: b (tcp refused)"


def test_of_many_that_fail_the_first_are_named():
    many = latest(*(ProbeFinding(f"t{n}", 5.0, ILL.result) for n in range(30)))
    said = summarize(30, many, {})
    assert said is not None
    assert said.startswith("30 of 30 targets fail: t0 (tcp refused), ")
    assert said.endswith(" and 26 more")


def test_what_will_not_stay_well_is_said():
    assert summarize(2, latest(WELL, SOON), {}) == "1 of 2 targets warn: c (ends in 6.2 days)"


def test_what_is_off_is_said_and_why():
    assert summarize(1, latest(ILL), {"dns": "NET_DNS_ENABLED"}) == (
        "1 of 1 targets fail: b (tcp refused); off: dns (NET_DNS_ENABLED)"
    )
