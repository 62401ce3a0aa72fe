"""A token and its text: what is kept, what is shown, and what is refused."""

import pytest

from marketswarm.operator.token import Scope, Token, TokenText, hash_secret

TEXT = TokenText("1f0c3a9e", bytes(range(32)))
TOKEN = Token(
    id="1f0c3a9e",
    name="deploy",
    scopes=(Scope.WRITE,),
    sha256=hash_secret(TEXT.secret),
    author="kim",
    created_at=1000.0,
    expires_at=2000.0,
)


def test_the_text_of_a_token_is_read_as_it_was_written():
    assert str(TEXT).startswith("mst_1f0c3a9e_000102")
    assert TokenText.parse(str(TEXT)) == TEXT


@pytest.mark.parametrize(
    "text",
    [
        "",
        "mst_",
        str(TEXT)[:-1],
        str(TEXT) + "0",
        str(TEXT).upper(),
        " " + str(TEXT),
        str(TEXT) + "\n",
        "é" * 77,
    ],
)
def test_any_other_text_is_no_token(text):
    assert TokenText.parse(text) is None


def test_a_secret_is_in_no_representation():
    assert TEXT.secret.hex() not in repr(TEXT)
    assert TEXT.secret.hex() not in TOKEN.encode().decode()


def test_a_token_is_matched_by_its_own_text_alone():
    assert TOKEN.matches(TEXT)
    assert not TOKEN.matches(TokenText(TEXT.id, bytes(32)))
    assert not TOKEN.matches(TokenText("00000000", TEXT.secret))


def test_a_token_is_invalid_from_its_end_on():
    assert not TOKEN.expired(1999.9)
    assert TOKEN.expired(2000.0)


def test_a_token_is_read_as_it_was_written():
    assert Token.parse(TOKEN.encode()) == TOKEN


@pytest.mark.parametrize(
    ("found", "odd"),
    [
        (b'"write"', b'"root"'),
        (b'["write"]', b"[]"),
        (b"1000.0", b"1e300"),
        (b'"deploy"', b"5"),
        (b'"1f0c3a9e"', b'"x"'),
        (b'"deploy"', b'"%b"' % (b"x" * 20_000)),
        (b"{", b"["),
    ],
)
def test_what_is_no_token_is_refused(found, odd):
    assert found in TOKEN.encode()
    assert Token.parse(TOKEN.encode().replace(found, odd, 1)) is None
