"""Report the metrics of the market as the board serves it."""

from collections.abc import Iterator

from marketswarm.metrics.family import Family, counter, gauge
from services.board.market.market import Market


def collect_market(market: Market) -> Iterator[Family]:
    """Yield each metric of the market with its current value."""
    hub, counts = market.hub, market.charts.bases.counts
    yield gauge(
        "marketswarm_board_market_feed_up",
        "0 while what is new of the market can't be read from its bus, else 1; no value without a market.",
        float(market.feed.problem is None) if market.feed.has_market else None,
    )
    yield gauge(
        "marketswarm_board_market_database_up",
        "0 while the archive's database does not answer the board, else 1; no value without one.",
        float(market.archive.problem is None) if market.archive.is_configured else None,
    )
    yield gauge("marketswarm_board_market_followers", "Clients that follow the market.", float(len(hub)))
    yield counter(
        "marketswarm_board_market_followers_dropped_total",
        "Clients that were dropped, since they did not keep up.",
        hub.dropped,
    )
    yield counter(
        "marketswarm_board_market_updates_total", "Updates of the market that were numbered.", hub.published
    )
    yield counter(
        "marketswarm_board_market_malformed_total",
        "Entries of the streams of the market that are no records.",
        market.live.malformed,
    )
    origins = {
        "answer": market.answers.counts.memory,
        "memory": counts.memory,
        "redis": counts.redis,
        "archive": counts.source,
    }
    yield Family(
        "marketswarm_board_market_charts_total",
        "counter",
        "Charts that were answered, by where their bars came from; an answer is one that was kept whole.",
        [((origin,), float(count)) for origin, count in origins.items()],
        labels=("origin",),
    )
