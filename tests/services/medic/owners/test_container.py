"""What the answers of a container engine are taken for; each of them may be hostile."""

import json

import pytest

from services.medic.owners.container import (
    MAX_CONTAINERS,
    ContainerState,
    find_complaint,
    make_filters,
    parse_identity,
    parse_inspected,
    parse_listing,
    parse_usage,
)
from services.medic.owners.owner import UnusableAnswerError

ID = "ab" * 32
MINE = {"com.docker.compose.project": "shop", "com.docker.compose.service": "feed"}
STARTED = "2026-01-02T03:04:05.678901234Z"
STATE = {"Status": "running", "StartedAt": STARTED, "OOMKilled": False, "ExitCode": 0}


def entry(number=1, **more):
    return {"Id": f"{number:064x}", "Labels": MINE, "State": "running", "Status": "Up 3 hours", **more}


def listing(*entries, project="shop", services=("feed", "mesh")):
    return parse_listing(json.dumps(entries).encode(), services, project)


def inspected(body=None, **state):
    body = {"Id": ID, "RestartCount": 2, "State": {**STATE, **state}, **(body or {})}
    return parse_inspected(json.dumps(body).encode(), ID)


def test_a_container_is_that_of_the_service_that_compose_names_within_the_project():
    other = {**MINE, "com.docker.compose.project": "other"}
    (found,) = listing(entry(1), entry(2, Labels=other), entry(3, Labels={"marketswarm.service": "feed"}))
    assert (found.id, found.svc, found.state, found.status) == (
        f"{1:064x}",
        "feed",
        ContainerState.RUNNING,
        "Up 3 hours",
    )


def test_our_own_label_names_the_service_and_without_a_project_nothing_else_does():
    labels = {**MINE, "marketswarm.service": "mesh"}
    assert [each.svc for each in listing(entry(1, Labels=labels))] == ["mesh"]
    assert [each.svc for each in listing(entry(1, Labels=labels), entry(2), project=None)] == ["mesh"]
    assert json.loads(make_filters("shop")) == {"label": ["com.docker.compose.project=shop"]}
    assert json.loads(make_filters(None)) == {"label": ["marketswarm.service"]}


@pytest.mark.parametrize(
    ("labels", "command", "is_agent"),
    [
        ({}, "", None),
        ({"marketswarm.agent": "true"}, "python -m services.feed", True),
        ({"marketswarm.service": "feed"}, "own-program", True),
        ({"marketswarm.agent": "false", "marketswarm.service": "feed"}, "", False),
        ({"marketswarm.agent": ["true"]}, "", False),
        ({"marketswarm.agent": "true"}, "python -m healer", False),
        ({"marketswarm.service": "feed"}, "python3 -m services.medic --dry-run", False),
        ({"marketswarm.agent": "true"}, "python -m bootstrap.access", False),
        ({"marketswarm.agent": "true"}, "python -m services.medical", True),
        ({"marketswarm.agent": "true"}, "a -m " * 100_000, True),
        ({"marketswarm.agent": "true"}, 7, True),
    ],
)
def test_a_label_makes_a_container_an_agent_and_a_name_alone_does_not(labels, command, is_agent):
    (found,) = listing(entry(Labels={**MINE, **labels}, Command=command))
    assert found.is_agent is is_agent


@pytest.mark.parametrize(
    "labels",
    [
        {**MINE, "com.docker.compose.oneoff": "True"},
        {**MINE, "com.docker.compose.service": "postgres"},
        {**MINE, "marketswarm.service": ["feed"]},
        {**MINE, "marketswarm.service": "f" * 101},
    ],
    ids=["run by hand", "not in the truth", "no text", "too long"],
)
def test_a_container_that_is_of_no_service_of_the_truth_is_left_out(labels):
    assert listing(entry(Labels=labels)) == []


@pytest.mark.parametrize(
    "body",
    [
        b"junk",
        b"{}",
        b"[1]",
        b"[" * 100_000,
        json.dumps([entry(Labels=None)]).encode(),
        json.dumps([entry(Id="../../build")]).encode(),
        json.dumps([entry(Id="ab" * 31)]).encode(),
        json.dumps([entry(), entry()]).encode(),
        json.dumps([entry(number) for number in range(MAX_CONTAINERS + 1)]).encode(),
    ],
    ids=lambda body: body[:40].decode(),
)
def test_a_list_with_an_entry_that_could_be_of_any_service_is_not_used_at_all(body):
    with pytest.raises(UnusableAnswerError):
        parse_listing(body, ("feed",), "shop")


def test_the_identity_of_a_container_is_its_id_and_its_start():
    found = inspected()
    assert found.identity == f"{ID}@{STARTED}"
    assert parse_identity(found.identity) == ID
    assert found.started == pytest.approx(1767323045.678901)
    assert found.restarts == 2


@pytest.mark.parametrize("identity", ["", "17.5", ID, f"{ID}@", f"{ID}/../x@{STARTED}", f"{ID}@{STARTED}\n"])
def test_what_is_no_identity_names_no_container(identity):
    assert parse_identity(identity) is None


@pytest.mark.parametrize(
    ("status", "waits", "is_stopped"),
    [
        ("running", False, False),
        ("restarting", True, False),
        ("created", True, False),
        ("exited", False, True),
        ("paused", False, True),
        ("removing", False, True),
        ("dead", False, True),
    ],
)
def test_what_ended_is_restarted_by_the_engine_or_was_stopped_as_far_as_it_says(status, waits, is_stopped):
    found = inspected(Status=status, ExitCode=137, OOMKilled=True).make_facts(7.0)
    assert (found.is_waiting, found.is_stopped, found.age_sec) == (waits, is_stopped, 7.0)
    has_ended = status not in ("running", "created")
    assert found.exit_code == (137 if has_ended else None)
    assert found.describe_end() == ("ended with 137, ran out of memory" if has_ended else "ran out of memory")
    assert found.is_restarting is None, "the engine does not say whether a restart goes on"


def test_a_container_that_was_never_started_has_no_start():
    assert inspected(Status="created", StartedAt="0001-01-01T00:00:00Z").started == 0


@pytest.mark.parametrize(
    ("body", "state"),
    [
        ({"Id": "cd" * 32}, {}),
        ({"State": None}, {}),
        ({"State": "running"}, {}),
        ({"RestartCount": -1}, {}),
        ({"RestartCount": "2"}, {}),
        ({"RestartCount": True}, {}),
        ({}, {"Status": "fine"}),
        ({}, {"Status": None}),
        ({}, {"ExitCode": 2**40}),
        ({}, {"ExitCode": 1.5}),
        ({}, {"OOMKilled": "no"}),
        ({}, {"StartedAt": "yesterday"}),
        ({}, {"StartedAt": "2026-13-45T99:99:99Z"}),
        ({}, {"StartedAt": STARTED + "\x1b[31m"}),
        ({}, {"StartedAt": 1}),
    ],
)
def test_an_inspection_with_a_wrong_type_or_value_is_not_used(body, state):
    with pytest.raises(UnusableAnswerError):
        inspected(body, **state)


MB = 1_000_000
USED = {"usage": 80 * MB, "limit": 100 * MB, "stats": {"inactive_file": 20 * MB, "anon": 60 * MB}}


def used(memory=USED, cpu=None, **more):
    cpu = {"cpu_usage": {"total_usage": 5_000_000_000}} if cpu is None else cpu
    return parse_usage(json.dumps({"id": ID, "memory_stats": memory, "cpu_stats": cpu, **more}).encode(), ID)


def test_the_memory_of_a_container_is_what_its_limit_counts_without_files_that_are_dropped_first():
    found = used()
    assert (found.memory_bytes, found.limit_bytes, found.cpu_ns) == (60 * MB, 100 * MB, 5_000_000_000)
    assert found.find_memory_percent(1000 * MB) == 60
    old = used({**USED, "stats": {"total_inactive_file": 30 * MB, "inactive_file": 1}})
    assert old.memory_bytes == 50 * MB, "control groups, version 1"
    assert used({**USED, "stats": {"inactive_file": 90 * MB}}).memory_bytes == 80 * MB, "as docker stats does"
    assert used({"usage": 80 * MB, "limit": 100 * MB}).memory_bytes == 80 * MB


@pytest.mark.parametrize("limit", [None, 0, 200 * MB, 2**63 - 4096, 2**64 - 1])
def test_a_container_without_a_limit_has_that_of_the_machine(limit):
    assert used({**USED, "limit": limit}).find_memory_percent(120 * MB) == 50


def test_what_has_just_ended_takes_nothing_that_is_known():
    for memory, cpu in (({}, {}), ({"usage": 0}, {"cpu_usage": {"total_usage": 0}})):
        found = used(memory, cpu, id="")
        assert (found.memory_bytes, found.cpu_ns, found.find_memory_percent(MB)) == (None, None, None)


@pytest.mark.parametrize(
    "more",
    [
        {"id": "cd" * 32},
        {"id": [ID]},
        {"memory_stats": None},
        {"memory_stats": [1]},
        {"cpu_stats": 7},
        {"memory_stats": {**USED, "usage": -1}},
        {"memory_stats": {**USED, "usage": 8.5}},
        {"memory_stats": {**USED, "usage": True}},
        {"memory_stats": {**USED, "usage": "80"}},
        {"memory_stats": {**USED, "limit": -1}},
        {"memory_stats": {**USED, "stats": [1]}},
        {"memory_stats": {**USED, "stats": {"inactive_file": "20"}}},
        {"cpu_stats": {"cpu_usage": {"total_usage": 1e300}}},
        {"cpu_stats": {"cpu_usage": 5}},
    ],
    ids=str,
)
def test_a_usage_with_a_wrong_type_or_value_is_not_used(more):
    with pytest.raises(UnusableAnswerError):
        used(**more)


@pytest.mark.parametrize("body", [b"", b"[]", b"null", b"{}", b'{"memory_stats": {"usage": NaN}}'])
def test_what_is_no_usage_is_not_used(body):
    with pytest.raises(UnusableAnswerError):
        parse_usage(body, ID)


def test_what_an_engine_complains_of_is_a_text_or_nothing():
    assert find_complaint(b'{"message": "No such container"}') == "No such container"
    assert [find_complaint(each) for each in (b"", b"junk", b"[]", b'{"message": 1}')] == [""] * 4
