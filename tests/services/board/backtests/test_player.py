"""What the player of backtests gives to the process that plays them."""

from marketswarm.truth import Heartbeat, Service, Truth
from services.board.backtests import player
from services.board.backtests.player import BacktestPlayer
from services.signals.backtest_process import PlayOutcome
from services.signals.report import BacktestRequest

DIGEST = "ab" * 32


def make_truth(session):
    entry = {"symbols": ["VOD.L"], "session": session}
    return Truth(services={"bars": Service(heartbeat=Heartbeat(), endpoints=[entry])})


async def test_symbols_trade_in_the_sessions_of_the_truth_in_force(monkeypatch):
    given = []

    async def answer(_request, _url, sessions, kept, _on_progress):
        given.append(sessions)
        return PlayOutcome.KEPT, kept.encode()

    monkeypatch.setattr(player, "request_backtest", answer)
    truths = [make_truth("XLON"), make_truth("XETR")]
    days = {"from": "2026-01-05", "to": "2026-02-05"}
    request = BacktestRequest.from_document({"strategy": "breakout", "symbols": ["VOD.L"], **days})
    played = BacktestPlayer("postgresql://127.0.0.1:1/none", lambda: truths[0])
    await played.play(request, DIGEST, given.append)
    del truths[0]
    await played.play(request, DIGEST, given.append)
    assert given == [{"VOD.L": "XLON"}, {"VOD.L": "XETR"}]
