"""Requests made from the board's OpenAPI document, right and wrong ones: each answer is described there."""

from collections import Counter
from functools import partial

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from support.rig.steered_fleet import run_steered_fleet

DESCRIBED = (status_code_conformance, content_type_conformance, response_headers_conformance)
ENDLESS = ("GET /api/v1/stream",)  # tests of the stream are elsewhere
# schemathesis 4.32 turns `prefixItems` into a list of `items`, and then refuses that as no schema
WITH_PAIRS = ("GET /api/v1/truth/diff",)
CHECKS = ("POST /api/v1/truth/check",)  # answers what is wrong with any body, and changes nothing
WITHOUT_VALUES = ("/fleet", "/services", "/incidents", "/topology", "/truth", "/truth/revisions")


@pytest.fixture(scope="module")
def fleet(tmp_path_factory):
    with run_steered_fleet(tmp_path_factory.mktemp("described")) as fleet:
        yield fleet


@pytest.fixture(scope="module")
def operations(fleet):
    schema = schemathesis.openapi.from_url(f"{fleet.url}/api/v1/openapi.json")
    found = [each.ok() for each in schema.get_all_operations()]
    return {each.label: each for each in found if each.label not in ENDLESS}


@pytest.fixture(scope="module")
def ask_all(pytestconfig):
    """Sends some requests for an operation, more in a nightly run; returns how often each status came."""
    return partial(send_requests, count=12 if pytestconfig.getoption("nightly") else 4)


def send_requests(operation, mode, headers, count):
    statuses, checks = Counter(), list(DESCRIBED)
    if operation.label not in WITH_PAIRS:
        checks.append(response_schema_conformance)

    @settings(
        max_examples=count,
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(operation.as_strategy(mode))
    def ask(case):
        answer = case.call(headers=headers, timeout=20)
        statuses[answer.status_code] += 1
        is_described = answer.status_code in (503, 504)
        case.validate_response(answer, checks=checks if is_described else [*checks, not_a_server_error])

    ask()
    return statuses


@pytest.mark.timeout(900)
def test_every_right_request_gets_an_answer_that_the_document_describes(fleet, operations, ask_all):
    found = {
        label: ask_all(operation, GenerationMode.POSITIVE, fleet.headers)
        for label, operation in operations.items()
    }
    assert len(found) >= 15, sorted(found)
    assert all(statuses for statuses in found.values())
    for path in WITHOUT_VALUES:
        assert set(found[f"GET /api/v1{path}"]) == {200}, found
    assert {200, 404} <= set(found["GET /api/v1/services/{svc}"] | found["GET /api/v1/alerts"]), found


@pytest.mark.timeout(900)
def test_every_wrong_request_gets_an_answer_that_the_document_describes(fleet, operations, ask_all):
    wrong = [each for name, each in operations.items() if (each.query or each.body) and name not in CHECKS]
    found = {}
    for n, operation in enumerate(wrong):  # one token may not write as often as all of them do
        token = fleet.shell.said("token", "create", f"wrong{n}", "--scope", "write", "--by", "kim").strip()
        headers = {"Authorization": f"Bearer {token}"}
        found[operation.label] = ask_all(operation, GenerationMode.NEGATIVE, headers)
    assert len(found) >= 5, sorted(found)
    assert not [label for label, statuses in found.items() if max(statuses) < 400]
    assert 422 in found["GET /api/v1/alerts"], found
    assert 422 in found["POST /api/v1/silences"], found


@pytest.mark.timeout(900)
def test_every_request_that_changes_something_needs_a_token(operations, ask_all):
    changing = [each for name, each in operations.items() if each.method != "get" and name not in CHECKS]
    found = {each.label: set(ask_all(each, GenerationMode.POSITIVE, {})) for each in changing}
    assert len(found) >= 4, sorted(found)
    # after sixty requests without a token an address waits, which is 429
    assert set[int]().union(*found.values()) <= {401, 404, 414, 429}, found
