"""Equal sections are checked once and share one object; nobody can tell, but by the memory and the time."""

import json

import orjson
import pytest

from marketswarm.truth import Truth, TruthError, Watch, diff_truths, parse_truth
from marketswarm.truth.parse import (
    MAX_SHARED,
    _decode_plain,
    _format_section,
    check_document,
    decode_document,
)


def truth(services: dict[str, object]) -> Truth:
    return parse_truth(json.dumps({"services": services}).encode()).truth


def problems_of(document: str) -> list[str]:
    checked = check_document(document.encode())
    return [str(each) for each in (*checked.errors, *checked.warnings)]


def test_equal_sections_share_one_service_and_each_has_a_channel_of_its_own():
    section = {"heartbeat": {"interval_sec": 10, "timeout_sec": 30}, "settings": {"x": [1]}}
    found = truth({"a": section, "b": section})
    assert found.services["a"] is found.services["b"]
    assert found.watched() == (
        Watch("a", "system-redis", "a:heartbeat", 10.0, 30.0),
        Watch("b", "system-redis", "b:heartbeat", 10.0, 30.0),
    )


def test_a_channel_that_is_the_default_one_makes_no_difference_but_counts_as_set():
    found = truth(
        {
            "a": {"heartbeat": {"channel": "a:heartbeat"}},
            "b": {"heartbeat": {"channel": "b:heartbeat"}},
            "c": {"heartbeat": {}},
        }
    )
    assert found.services["a"] is found.services["b"]
    assert found.services["a"] == found.services["c"]
    assert [found.services[svc].heartbeat.said for svc in "ac"] == [("channel",), ()]
    assert [found.channel_of(svc) for svc in "abc"] == ["a:heartbeat", "b:heartbeat", "c:heartbeat"]
    assert not diff_truths(truth({"a": {"heartbeat": {"channel": "a:heartbeat"}}}), truth({"a": {}}))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ('{"settings": {"x": 1}}', '{"settings": {"x": 1.0}}'),
        ('{"settings": {"x": 1}}', '{"settings": {"x": true}}'),
        ('{"settings": {"x": 0}}', '{"settings": {"x": "0"}}'),
        ('{"settings": {"x": "["}}', '{"settings": {"x": ["["]}}'),
        ('{"settings": {"x": "\\u2028"}}', '{"settings": {"x": "\\\\u2028"}}'),
        ('{"heartbeat": {"channel": "b:heartbeat"}}', '{"heartbeat": {"channel": "x"}}'),
    ],
)
def test_sections_that_differ_share_nothing(one, other):
    for sections in ((one, other), (other, one)):
        document = f'{{"services": {{"b": {sections[0]}, "c": {sections[1]}}}}}'
        services = parse_truth(document.encode()).truth.services
        alone = [
            parse_truth(f'{{"services": {{"{svc}": {sections[n]}}}}}'.encode()) for n, svc in enumerate("bc")
        ]
        assert [repr(services[svc]) for svc in "bc"] == [
            repr(each.truth.services[svc]) for svc, each in zip("bc", alone, strict=True)
        ]


@pytest.mark.parametrize("number", ["NaN", "1e999"])
def test_a_number_that_is_not_finite_is_not_taken_for_null(number):
    wrong = f'{{"services": {{"a": {{"settings": {{"x": null}}}}, "b": {{"settings": {{"x": {number}}}}}}}}}'
    with pytest.raises(TruthError, match=r"services\.b\.settings\.x"):
        parse_truth(wrong.encode())


def test_a_key_that_is_given_twice_is_found_in_each_section_though_one_before_it_is_right():
    right, wrong = '{"settings": {"x": 1}}', '{"settings": {"x": 1, "x": 1}}'
    document = f'{{"services": {{"a": {right}, "b": {wrong}, "c": {right}, "d": {wrong}}}}}'
    assert problems_of(document) == [
        "services.b.settings.x: given twice: keep one",
        "services.d.settings.x: given twice: keep one",
    ]


def test_a_key_that_is_given_twice_is_found_beside_a_channel_that_is_the_default_one():
    beat = '{"channel": "a:heartbeat", "interval_sec": 5, "interval_sec": 6}'
    assert problems_of(f'{{"services": {{"a": {{"heartbeat": {beat}}}}}}}') == [
        "services.a.heartbeat.interval_sec: given twice: keep one"
    ]


WRONG = {
    "heartbeat": {"interval_sec": -1, "nonsense": 1, "timeout_sec": 5},
    "settings": {"password": "hunter2"},
    "access_points": {"publish_to": [{"bus": "nowhere", "key": "k"}, {"bus": "system-redis"}]},
    "unheard_of": 1,
}


def test_every_name_of_a_wrong_section_is_told_with_all_that_is_wrong_in_it():
    alone = problems_of(json.dumps({"services": {"a": WRONG}}))
    assert len(alone) == 6
    services = {"a": WRONG, "b": {}, "c": WRONG, "my svc": WRONG}
    found = problems_of(json.dumps({"services": services}))
    for svc in ("a", "c"):
        assert [each for each in found if f"services.{svc}." in each] == [
            each.replace("services.a.", f"services.{svc}.") for each in alone
        ]
    assert any('services["my svc"].settings.password' in each for each in found)


def test_a_rule_between_fields_is_told_for_every_name_also_after_a_wrong_name():
    short = {"heartbeat": {"interval_sec": 10, "timeout_sec": 5}}
    tight = {"heartbeat": {"interval_sec": 10, "timeout_sec": 20}}
    services = {"1x": short, "a": short, "b": short, "c": tight, "d": tight, "e": {}, "healer": {}}
    found = problems_of(json.dumps({"services": services}))
    assert [each.split(":")[0] for each in found] == [
        "services.1x",
        "services.a.heartbeat.timeout_sec",
        "services.b.heartbeat.timeout_sec",
        "services.c.heartbeat.timeout_sec",
        "services.d.heartbeat.timeout_sec",
    ]


def test_the_healer_has_rules_of_its_own_though_its_section_is_that_of_a_job():
    job = {"heartbeat": {"schedule": "0 3 * * *"}}
    for services in ({"a": job, "healer": job}, {"healer": job, "a": job}):
        (found,) = problems_of(json.dumps({"services": services}))
        assert found.startswith("services.healer.heartbeat.schedule")


@pytest.mark.slow
def test_more_different_sections_than_are_kept_are_all_right():
    services = {f"s{n}": {"description": str(n % (MAX_SHARED + 10))} for n in range(2 * MAX_SHARED + 20)}
    found = truth(services).services
    assert {svc: service.description for svc, service in found.items()} == {
        svc: section["description"] for svc, section in services.items()
    }


PLAIN = {
    "services": {"a": {"heartbeat": {"interval_sec": 10.5}, "settings": {"é": [None, True, -0.0, 1e300, ""]}}}
}


@pytest.mark.parametrize(
    "write", [orjson.dumps, lambda each: orjson.dumps(each, option=orjson.OPT_INDENT_2) + b"\n"]
)
def test_a_document_that_a_program_wrote_is_read_like_any_other(write):
    raw = write(PLAIN)
    assert _decode_plain(raw) == PLAIN
    assert decode_document(raw) == decode_document(b" " + raw), "the space takes it the long way"


@pytest.mark.parametrize(
    "raw",
    [
        b'{"services":{"a":{},"a":{}}}',
        b'{"services":{"a":{"settings":{"x":1,"x":1}}}}',
        b'{"services":{"a":{"settings":{"x":123456789012345678901234567890}}}}',
        b'{"services":{"a":{"settings":{"x":NaN}}}}',
        b'{"services":{"a":{"settings":{"x":1e999}}}}',
        b'{"services":{"a":{"settings":{"x":1.50}}}}',
        b'{"services":{"a":{"settings":{"x":"\\ud800"}}}}',
        b'{"services":{"a":{"settings":{"x":"\\u0061"}}}}',
        b'{"services": {}}',
        b"[]",
        b"\xff",
    ],
)
def test_what_no_program_writes_so_is_decoded_with_all_checks(raw):
    assert _decode_plain(raw) is None


def test_a_number_that_is_not_finite_is_told_from_null():
    null, infinite = {"settings": {"x": None}}, {"settings": {"x": float("inf")}}
    assert _format_section(null) != _format_section(infinite)
    assert _format_section({"x": 1}) != _format_section({"x": 1.0}) != _format_section({"x": True})
