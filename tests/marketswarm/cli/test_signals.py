"""`marketswarm signals` on real servers: what it follows, what it leaves out, and what programs read."""

import time

import orjson
import pytest

from marketswarm.exit import Code
from marketswarm.keys import SIGNALS_LOG, SIGNALS_WORDINGS
from services.tables.signal_wordings import WordedSignal, Wording, make_wording_fields
from services.tables.signals import make_signal_fields
from support.rig.shell import SERVICES
from support.signal_rows import ENDPOINTS, SCORE, VOTES, make_content, make_rows, make_tick
from support.waiting import until

pytestmark = pytest.mark.live
HURT = {**VOTES, "trend": {**VOTES["trend"], "reasons": ["up\u202edown\x1b[31mred"]}}


@pytest.fixture
def market(shell, buses):
    """market-redis of a fleet with signals."""
    shell.write({"services": {**SERVICES, "signals": {"endpoints": ENDPOINTS}}})
    assert shell("seed").returncode == 0
    return buses[1]


def publish(market, *contents):
    """Publish places as signals does; return their ids."""
    rows = make_rows(make_tick(1, *contents, at_ms=round(1000 * time.time())))
    for row in rows:
        fields = make_signal_fields(row, "stocks")
        market.cmd("XADD", SIGNALS_LOG, "*", *(word for pair in fields.items() for word in pair))
    return [row.ident for row in rows]


def word(market, ident, symbol, text):
    wording = Wording(text, "grok-4", round(1000 * time.time()))
    fields = make_wording_fields(WordedSignal(ident, 1, symbol, "long", wording))
    market.cmd("XADD", SIGNALS_WORDINGS, "*", *(word for pair in fields.items() for word in pair))


def test_the_past_is_a_table_or_a_line_of_json_each(shell, market):
    first, second = publish(market, make_content("EUR/USD", 1), make_content("SPY", 1, "short", votes=HURT))
    shown = shell("signals", "--since", "1h", "--no-follow", COLUMNS="200")
    assert shown.returncode == 0, shown.stderr
    head, *lines, hint = shown.stdout.splitlines()
    assert head.split() == ["at", "symbol", "says", "confidence", "conflict", "votes", "why"]
    assert [line.split()[1:5] for line in lines] == [
        ["EUR/USD", "long", "42", "%"], ["SPY", "short", "42", "%"],
    ]  # fmt: skip
    assert "\u202e" not in shown.stdout
    assert "\x1b" not in shown.stdout
    assert hint == "paper, no advice."
    answer = shell("signals", "follow", "--since", "1h", "--no-follow", "--json")
    found = list(map(orjson.loads, answer.stdout.splitlines()))
    assert [one["id"] for one in found] == [first, second]
    assert (found[0]["score"], found[0]["voted"], found[0]["side"]) == (SCORE, 3, "long")
    one = shell("signals", "--since", "1h", "--no-follow", "--json", "--symbol", "SPY")
    assert [each["id"] for each in map(orjson.loads, one.stdout.splitlines())] == [second]
    none = shell("signals", "--since", "1h", "--no-follow", "--symbol", "QQQ")
    assert none.stdout == "no signal in that time\n"


def test_new_signals_come_once_and_what_is_none_is_skipped(shell, market):
    with shell.start("signals", "--since", "1h") as command:
        assert "paper, no advice" in command.stderr.readline()
        market.cmd("XADD", SIGNALS_LOG, "*", "id", "0" * 64, "content", "{}")
        content = make_content("SPY", 1, votes=HURT, replay=True)
        publish(market, content)
        publish(market, content)  # a new leader does not know that it was published
        publish(market, make_content("QQQ", 2, None))
        assert "skipped: entry" in command.stderr.readline()
        first, second = command.stdout.readline(), command.stdout.readline()
    assert first[9:].rstrip() == (
        r"▲ SPY long 42 %, conflict 25 %, 3 of 4 votes: trend: up\u202edown\x1b[31mred (replay)"
    )
    assert second[9:].rstrip() == "· QQQ abstained 42 %, conflict 25 %, 3 of 4 votes: quorum"


def test_the_words_of_a_model_come_after_the_signal_and_change_nothing_of_it(shell, market):
    content = make_content("SPY", 1)
    with shell.start("signals", "--since", "1h") as command:
        command.stderr.readline()
        (ident,) = publish(market, content)
        first = command.stdout.readline()
        word(market, ident, "SPY", "it\u202e rises\x1b[31m")
        second = command.stdout.readline()
    assert first[9:].startswith("▲ SPY long 42 %")
    assert second[9:].rstrip() == r"· SPY long: it\u202e rises\x1b[31m (worded by grok-4)"
    shown = shell("signals", "--since", "1h", "--no-follow", COLUMNS="200").stdout
    assert "(worded by grok-4)" in shown
    assert len(shown.splitlines()) == 3
    answer = shell("signals", "--since", "1h", "--no-follow", "--json").stdout.splitlines()
    signal, worded = map(orjson.loads, answer)
    assert (signal["id"], worded["signal"], worded["wording"]["model"]) == (ident, ident, "grok-4")
    assert "wording" not in signal
    assert shell("signals", "--since", "1h", "--no-follow", "--json", "--symbol", "QQQ").stdout == ""


@pytest.mark.parametrize("words", [(), ("--json",)])
def test_a_past_that_could_not_be_read_is_no_empty_one(shell, market, words):
    market.stop()
    ended = shell("signals", "--since", "1h", "--no-follow", *words)
    assert (ended.returncode, ended.stdout) == (Code.NO_BUS, "")
    assert "market-redis" in ended.stderr


def test_it_ends_when_its_reader_has_gone(shell, market):
    with shell.start("signals") as command:
        command.stderr.readline()
        command.stdout.close()
        until(lambda: command.poll() is not None, what="the command to end")


def test_a_fleet_without_signals_and_wrong_words_are_said(shell, buses):
    shell.write({"services": SERVICES})
    assert shell("seed").returncode == 0
    ended = shell("signals", "--since", "1h", "--no-follow")
    assert (ended.returncode, "this fleet has no signals" in ended.stderr) == (2, True)
    for words in (("--no-follow",), ("--symbol", "<b>")):
        assert shell("signals", *words).returncode == 2
    assert shell("signals", "consensu").returncode == 2


def test_help_of_the_group_names_its_commands_and_runs_none(shell, buses):
    shown = shell("signals", "--help")
    assert (shown.returncode, "follow" in shown.stdout, "consensus" in shown.stdout) == (0, True, True)
