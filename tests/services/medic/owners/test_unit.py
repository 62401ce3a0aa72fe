"""What systemd's answers are taken for; each of them may be hostile."""

import pytest

from services.medic.owners.owner import UnusableAnswerError
from services.medic.owners.unit import (
    LISTED,
    MAX_UNITS,
    PROPERTIES,
    ActiveState,
    ListedUnit,
    make_unit_name,
    parse_properties,
    parse_units,
)

PATTERN = "marketswarm@%s.service"
PATH = "/org/freedesktop/systemd1/unit/x"
INVOCATION = "087a21546eea4066967edabe3864b032"
SAID = {
    "InvocationID": bytes.fromhex(INVOCATION),
    "NRestarts": 2,
    "MainPID": 4711,
    "ExecMainCode": 0,
    "ExecMainStatus": 0,
    "Result": "success",
    "ExecMainStartTimestampMonotonic": 40_000_000,
}


def entry(name="marketswarm@feed.service", *, active="active", sub="running", load="loaded", job=""):
    return [name, "text", load, active, sub, "", PATH, 7 if job else 0, job, "/"]


def listing(*entries, kind=LISTED, pattern=PATTERN):
    return parse_units(kind, [list(entries)], ("feed", "mesh", "my.svc"), pattern)


def inspected(**said):
    return parse_properties({name: (PROPERTIES[name][1], each) for name, each in {**SAID, **said}.items()})


def facts(active="active", sub="running", *, job="", load="loaded", **said):
    (listed,) = listing(entry(active=active, sub=sub, job=job, load=load))
    return inspected(**said).make_facts(listed, 100.0)


def test_a_unit_is_that_of_the_service_that_its_whole_name_names():
    other = [
        entry(name)
        for name in (
            "marketswarm@postgres.service",
            "marketswarm@feed.socket",
            "xmarketswarm@feed.service",
            "feed",
            "",
        )
    ]
    found = listing(entry(), entry("marketswarm@my.svc.service"), *other)
    assert found == [
        ListedUnit(svc, PATH, ActiveState.ACTIVE, "running", "", is_masked=False)
        for svc in ("feed", "my.svc")
    ]
    assert [each.svc for each in listing(entry("feed.service"), entry(), pattern="%s.service")] == ["feed"]
    assert make_unit_name(PATTERN, "feed") == "marketswarm@feed.service"


@pytest.mark.parametrize("kind", ["", "s", "as", "a(ssssssous)"])
def test_a_list_of_another_type_is_not_used(kind):
    with pytest.raises(UnusableAnswerError):
        listing(entry(), kind=kind)


def test_a_list_with_a_unit_twice_or_with_too_many_is_not_used():
    with pytest.raises(UnusableAnswerError, match="twice"):
        listing(entry(), entry())
    with pytest.raises(UnusableAnswerError, match="more than"):
        listing(*[entry()] * (MAX_UNITS + 1))


def test_the_identity_of_a_unit_is_its_invocation():
    found = inspected()
    assert (found.identity, found.restarts, found.pid, found.started_sec) == (INVOCATION, 2, 4711, 40.0)
    assert inspected(InvocationID=b"") is None, "it was never started here: it may run on another machine"


@pytest.mark.parametrize(
    ("active", "sub", "job", "waits", "is_stopped"),
    [
        ("active", "running", "", False, False),
        ("active", "running", "reload", False, False),
        ("reloading", "reload", "", False, False),
        ("active", "running", "stop", True, False),
        ("active", "running", "restart", True, False),
        ("activating", "auto-restart", "", True, False),
        ("activating", "start", "start", True, False),
        ("deactivating", "stop-watchdog", "", True, False),
        ("deactivating", "stop-sigterm", "stop", True, False),
        ("inactive", "dead", "start", True, False),
        ("failed", "failed", "restart", True, False),
        ("inactive", "dead", "", False, True),
        ("inactive", "dead", "stop", False, True),
        ("failed", "failed", "", False, True),
        ("maintenance", "", "", False, True),
    ],
)
def test_what_systemd_is_about_to_start_or_to_end_is_left_to_it_and_what_it_leaves_was_stopped(
    active, sub, job, waits, is_stopped
):
    found = facts(active, sub, job=job)
    assert (found.identity, found.age_sec) == (INVOCATION, 60.0)
    assert (found.is_waiting, found.is_stopped) == (waits, is_stopped)
    assert found.is_restarting is None, "a restart that a frozen medic asks for may come at any time"


def test_a_unit_that_a_person_has_masked_is_stopped_though_it_runs():
    found = facts(load="masked")
    assert (found.is_waiting, found.is_stopped) == (False, True)


@pytest.mark.parametrize(
    ("code", "status", "result", "said"),
    [
        (1, 2, "exit-code", "ended with 2"),
        (1, 0, "success", "ended with 0"),
        (2, 9, "signal", "ended with 137"),
        (2, 9, "oom-kill", "ended with 137, ran out of memory"),
        (3, 6, "watchdog", "ended with 134 (watchdog)"),
        (2, 9, "timeout", "ended with 137 (timeout)"),
        (0, 0, "resources", "ended (resources)"),
    ],
)
def test_how_a_unit_ended_is_told_as_a_shell_tells_it(code, status, result, said):
    end = {"ExecMainCode": code, "ExecMainStatus": status, "Result": result}
    assert facts("activating", "auto-restart", **end).describe_end() == said
    assert facts("failed", "failed", **end).describe_end() == said
    running = facts(**end)
    assert (running.exit_code, running.end_reason) == (None, ""), "that was the one before"


def test_a_start_in_the_future_and_none_have_no_age():
    assert facts(ExecMainStartTimestampMonotonic=10**12).age_sec == 0
    assert facts(ExecMainStartTimestampMonotonic=0).age_sec == 0


@pytest.mark.parametrize("name", PROPERTIES)
def test_a_property_of_another_type_is_not_used(name):
    said = {each: (PROPERTIES[each][1], value) for each, value in SAID.items()}
    with pytest.raises(UnusableAnswerError, match=name):
        parse_properties({**said, name: ("as", ["x"])})


@pytest.mark.parametrize(
    "said",
    [
        {"InvocationID": b"x"},
        {"InvocationID": b"x" * 17},
        {"MainPID": 2**31},
        {"Result": "fine"},
        {"Result": "\x1b[31m"},
        {"ExecMainCode": 1, "ExecMainStatus": 256},
        {"ExecMainCode": 1, "ExecMainStatus": -1},
        {"ExecMainCode": 2, "ExecMainStatus": 0},
        {"ExecMainCode": 2, "ExecMainStatus": 65},
        {"ExecMainCode": 7},
    ],
)
def test_a_property_with_a_wrong_value_is_not_used(said):
    with pytest.raises(UnusableAnswerError):
        inspected(**said)
