"""Does a name server answer as it should: against servers that do what a test says."""

import pytest

from services.massive.probes.probers.context import ProbeContext
from services.massive.probes.probers.dns import probe
from services.massive.targets import Dns
from support.fixtures import opened
from support.rig.name_server import Names
from support.rig.process import HOST, free_port

NAME = "shop.example"


async def nobody(_host, _port):
    raise AssertionError("names are asked of the servers themselves")


MEANS = ProbeContext(30.0, nobody)

names = opened(Names)


def of(names, **more):
    return Dns(**{"name": "a", "host": NAME, "resolvers": (names.place,), **more})


async def test_a_name_that_is_known_is_well(names):
    names.known[NAME, "A"] = ["192.0.2.7", "192.0.2.8"]
    found = await probe(of(names), MEANS)
    assert (found.kind, found.stage, found.error, found.where) == ("dns", "done", None, f"A {NAME}")
    assert found.facts == {"resolver": names.place, "answers": "192.0.2.7, 192.0.2.8"}
    assert set(found.ms) == {"dns", "total"}


@pytest.mark.parametrize(
    ("host", "record", "known", "expect"),
    [
        (NAME, "AAAA", "2001:db8::7", "2001:DB8::7"),
        (NAME, "CNAME", "www.shop.example.", "www.shop.example"),
        (NAME, "MX", "10 mail.shop.example.", "10 mail.shop.example"),
        (NAME, "TXT", '"v=spf1 -all"', "v=spf1 -all"),
        (NAME, "NS", "ns.example.", "NS.example."),
        ("7.2.0.192.in-addr.arpa", "PTR", "shop.example.", "shop.example"),
    ],
)
async def test_each_kind_of_record_can_be_expected(names, host, record, known, expect):
    names.known[host, record] = [known]
    found = await probe(of(names, host=host, record=record, expect=(expect,)), MEANS)
    assert found.error is None


async def test_an_address_can_be_asked_whose_it_is(names):
    names.known["7.2.0.192.in-addr.arpa", "PTR"] = ["shop.example."]
    assert (await probe(of(names, host="192.0.2.7", record="PTR"), MEANS)).ok


async def test_what_is_expected_is_to_be_among_the_answers(names):
    names.known[NAME, "A"] = ["192.0.2.7", "192.0.2.8"]
    assert (await probe(of(names, expect=("192.0.2.8",)), MEANS)).ok
    found = await probe(of(names, expect=("192.0.2.8", "192.0.2.9")), MEANS)
    assert (found.error, found.facts["answers"]) == ("unexpected", "192.0.2.7, 192.0.2.8")


@pytest.mark.parametrize("word", ["nxdomain", "servfail", "refused"])
async def test_what_a_server_says_has_its_word(names, word):
    names.known[NAME, "A"] = word
    found = await probe(of(names), MEANS)
    assert (found.stage, found.error, found.facts["resolver"]) == ("dns", word, names.place)


async def test_a_name_without_such_a_record_is_told_from_one_that_is_unknown(names):
    names.known[NAME, "AAAA"] = []
    assert (await probe(of(names, record="AAAA"), MEANS)).error == "no_answer"


@pytest.mark.parametrize("word", ["silent", "garbled"])
async def test_a_server_that_makes_no_sense_is_waited_for_as_one_that_is_silent(names, word):
    names.known[NAME, "A"] = word
    found = await probe(of(names), ProbeContext(0.3, nobody))
    assert (found.stage, found.error) == ("dns", "timeout")


async def test_where_nobody_listens_nobody_is_waited_for():
    found = await probe(
        Dns(name="a", host=NAME, resolvers=(f"{HOST}:{free_port()}",)), ProbeContext(20.0, nobody)
    )
    assert (found.stage, found.error) == ("dns", "unreachable")


async def test_an_answer_that_is_too_long_comes_over_tcp(names):
    names.known[NAME, "A"] = "cut"
    found = await probe(of(names), MEANS)
    assert (found.error, found.facts["answers"]) == (None, "192.0.2.9")
    assert [way for way, _ in names.asked] == ["udp", "tcp"]


async def test_forged_answers_are_passed_over(names):
    names.known[NAME, "A"] = "forged"
    found = await probe(of(names), MEANS)
    assert (found.error, found.facts["answers"]) == (None, "192.0.2.9")


@pytest.mark.parametrize(
    ("word", "timeout_sec"),
    [("silent", 3), ("servfail", 30), ("refused", 30)],  # half of it goes to one that says nothing
)
async def test_who_does_not_know_is_followed_by_the_next(names, word, timeout_sec):
    names.known[NAME, "A"] = ["192.0.2.7"]
    with Names({(NAME, "A"): word}) as first:
        found = await probe(
            of(names, resolvers=(first.place, names.place)), ProbeContext(timeout_sec, nobody)
        )
    assert (found.error, found.facts["resolver"]) == (None, names.place)


async def test_that_there_is_no_such_name_is_an_answer(names):
    names.known[NAME, "A"] = ["192.0.2.7"]
    with Names() as first:
        found = await probe(of(names, resolvers=(first.place, names.place)), MEANS)
    assert (found.error, found.facts["resolver"]) == ("nxdomain", first.place)
    assert names.asked == []


async def test_those_of_the_environment_are_asked_where_the_target_names_none(names):
    names.known[NAME, "A"] = ["192.0.2.7"]
    found = await probe(Dns(name="a", host=NAME), ProbeContext(30.0, nobody, resolvers=(names.place,)))
    assert found.facts["resolver"] == names.place


@pytest.mark.parametrize("host", ["a" * 64 + ".example", "a..example"])
async def test_a_name_that_is_none_is_a_result_too(names, host):
    found = await probe(of(names, host=host), MEANS)
    assert (found.error, names.asked) == ("bad_name", [])
