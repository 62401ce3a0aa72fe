import pytest
from hypothesis import given
from hypothesis import strategies as st

from marketswarm.pings import PingKind
from services.board.pings.answers import RefusedPingError
from services.board.pings.requests import PingAddress, parse_ping_path, parse_query, parse_run_id

UUID = "3f0c7e62-7f3e-4f0a-9c53-0d6f0b6f3c11"
KEY = "fqOOd6-F4MMNuCEnzTU01w"


@pytest.mark.parametrize(
    ("path", "secret", "slug", "kind", "code"),
    [
        (f"/ping/{UUID}", UUID, None, "success", None),
        (f"/ping/{UUID}/", UUID, None, "success", None),
        (f"/ping/{UUID.upper()}", UUID, None, "success", None),
        (f"/ping/{UUID}/start", UUID, None, "start", None),
        (f"/ping/{UUID}/fail", UUID, None, "fail", None),
        (f"/ping/{UUID}/log", UUID, None, "log", None),
        (f"/ping/{UUID}/0", UUID, None, "success", 0),
        (f"/ping/{UUID}/1", UUID, None, "fail", 1),
        (f"/ping/{UUID}/255", UUID, None, "fail", 255),
        (f"/ping/{KEY}/backup", KEY, "backup", "success", None),
        (f"/ping/{KEY}/start", KEY, "start", "success", None),
        (f"/ping/{KEY}/backup/start", KEY, "backup", "start", None),
        (f"/ping/{KEY}/backup/255", KEY, "backup", "fail", 255),
    ],
)
def test_addresses_mean_what_they_mean_to_healthchecks(path, secret, slug, kind, code):
    assert parse_ping_path(path) == PingAddress(secret, slug, PingKind(kind), code)


@pytest.mark.parametrize(
    ("path", "status", "body"),
    [
        ("/ping/", 400, b"invalid url format"),
        ("/ping/x", 400, b"invalid url format"),
        (f"/ping/{UUID}/256", 400, b"invalid url format"),
        (f"/ping/{UUID}/-1", 400, b"invalid url format"),
        (f"/ping/{UUID}/{'9' * 5000}", 400, b"invalid url format"),
        (f"/ping/{UUID}/٣", 400, b"invalid url format"),
        (f"/ping/{UUID}/stop", 400, b"invalid url format"),
        (f"/ping/{UUID}/start/", 400, b"invalid url format"),
        (f"/ping/{UUID}/start/1", 400, b"invalid url format"),
        (f"/ping/{KEY}", 400, b"invalid url format"),
        (f"/ping/{KEY}/", 400, b"invalid url format"),
        (f"/ping/{KEY}/Backup", 400, b"invalid url format"),
        (f"/ping/{KEY}/a b", 400, b"invalid url format"),
        (f"/ping/{KEY}/{'a' * 101}", 400, b"invalid url format"),
        ("/ping/short/backup", 404, b"not found"),
        (f"/ping/{UUID.replace('-', '')}/backup", 404, b"not found"),
    ],
)
def test_other_addresses_are_refused_as_healthchecks_does(path, status, body):
    with pytest.raises(RefusedPingError) as refused:
        parse_ping_path(path)
    assert (refused.value.answer.status, refused.value.answer.body) == (status, body)


@given(st.text(max_size=60))
def test_any_path_is_parsed_or_refused(rest):
    try:
        parse_ping_path("/ping/" + rest)
    except RefusedPingError as refused:
        assert refused.answer.status in (400, 404)  # noqa: PT017 - either is fine, nothing else is


def test_the_id_of_a_run_is_a_uuid_or_refused():
    assert parse_run_id(parse_query(f"rid={UUID.upper()}&x".encode())) == UUID
    assert parse_run_id(parse_query(b"")) is None
    for text in (b"rid=", b"rid=x", b"rid=" + UUID.encode() + b"0"):
        with pytest.raises(RefusedPingError) as refused:
            parse_run_id(parse_query(text))
        assert (refused.value.answer.status, refused.value.answer.body) == (400, b"invalid uuid format")


def test_of_a_query_with_very_many_fields_the_first_thousand_are_read():
    assert list(parse_query(b"&".join(b"a%d" % n for n in range(5_000)))) == [f"a{n}" for n in range(1_000)]
