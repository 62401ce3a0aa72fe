"""Tokens as a user makes, sees and revokes them."""

import orjson
import pytest

from marketswarm.keys import BOARD_TOKENS
from marketswarm.operator.tokens import Scope, Token, TokenText

pytestmark = pytest.mark.live


def create(shell, *words):
    ended = shell("token", "create", *words, "--by", "kim")
    assert ended.returncode == 0, ended.stderr
    return TokenText.parse(ended.stdout.removesuffix("\n")), ended.stderr


def held(bus):
    return {ident: Token.parse(raw.encode()) for ident, raw in bus.cmd("HGETALL", BOARD_TOKENS).items()}


def test_a_token_is_printed_once_and_its_hash_is_kept_on_system_redis_alone(shell, seeded):
    text, said = create(shell, "deploy", "--scope", "write", "--scope", "read", "--for", "90d")
    (token,) = held(seeded[0]).values()
    assert token.matches(text)
    assert (token.name, token.author, token.scopes) == ("deploy", "kim", (Scope.WRITE, Scope.READ))
    assert token.expires_at == pytest.approx(token.created_at + 90 * 86_400, abs=0.01)
    assert said.startswith(f"token {text.id} allows write, read until ")
    assert held(seeded[1]) == {}
    assert text.secret.hex() not in shell("token", "list").stdout + shell("token", "list", "--json").stdout


def test_a_token_may_only_read_and_has_no_end_unless_one_asks_for_more(shell, seeded):
    create(shell, "wall")
    (token,) = held(seeded[0]).values()
    assert (token.scopes, token.expires_at) == ((Scope.READ,), None)


def test_tokens_are_listed_with_what_each_is_for(shell, seeded):
    assert shell("token", "list").stdout == "there is no token\n"
    text, _ = create(shell, "wall\N{BLACK STAR}")
    head, line = shell("token", "list").stdout.splitlines()
    assert head.split() == ["id", "scopes", "until", "for", "by"]
    assert line.split() == [text.id, "read", "always", "wall\N{BLACK STAR}", "kim"]
    (shown,) = orjson.loads(shell("token", "list", "--json").stdout)
    assert (shown["id"], shown["expired"], "sha256" in shown) == (text.id, False, False)


def test_a_revoked_token_is_gone_and_an_unknown_one_is_said(shell, seeded):
    text, _ = create(shell, "wall")
    assert f"did you mean {text.id}?" in shell("token", "rotate", f"{text.id[:-1]}x").stderr
    assert shell("token", "revoke", text.id).stdout == f"token {text.id} is revoked\n"
    assert held(seeded[0]) == {}
    ended = shell("token", "revoke", text.id)
    assert ended.returncode == 2
    assert f"no token has the id {text.id}; `marketswarm token list` shows them: none" in ended.stderr


def test_without_the_bus_that_keeps_them_it_ends_with_3(shell, seeded):
    seeded[0].stop()
    for words in (["create", "x"], ["list"], ["revoke", "x"]):
        ended = shell("token", *words)
        assert (ended.returncode, ended.stdout) == (3, "")
        assert "bus system-redis at 127.0.0.1" in ended.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "NAME"),
        ([" "], "NAME"),
        (["a\x1b"], "NAME"),
        (["x" * 201], "NAME"),
        (["x", "--for", "0s"], "--for"),
        (["x", "--for", "9999d"], "ten years"),
        (["x", "--scope", "root"], "--scope"),
    ],
)
def test_a_name_a_scope_and_an_end_are_checked(shell, words, said):
    ended = shell("token", "create", *words)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert said in " ".join(ended.stderr.replace("│", "").split())


def test_a_uuid_for_a_service_that_the_truth_does_not_name_is_made_and_its_maker_told(shell, seeded):
    ended = shell("token", "create", "k", "--ping", "rss_ag", "--by", "kim")
    assert ended.returncode == 0
    assert "nobody watches rss_ag: the truth names no rss_ag; did you mean rss_agg?" in ended.stderr
    assert "nobody" not in shell("token", "create", "k", "--ping", "rss_agg", "--by", "kim").stderr
