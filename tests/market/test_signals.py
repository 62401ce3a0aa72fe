"""signals on real buses and a real PostgreSQL: bars in, places out, and what becomes of kills and outages."""

import asyncio
import random
import time
from dataclasses import replace

import asyncpg
import orjson
import pytest
import redis

from marketswarm.access.passwords import DATABASE_SIGNALS
from services.market.actions import find_day, find_day_ms
from services.market.entries import encode_entry
from services.market.records import MINUTE_MS, ActionKind, AssetClass, Bar, CorporateAction, Provenance
from services.signals.consensus.consensus import format_number
from services.signals.cycle.correlations import CommonVotes, list_opinions, name_pairs
from services.signals.key_file import make_key_file
from services.signals.log.note import SignatureKind
from services.signals.store.database import SignalDatabase
from services.signals.store.writer import SignalWriter
from services.tables.signal_witness import WitnessReport, parse_witness_report
from services.tables.signal_wordings import parse_wording_fields
from services.tables.signals import parse_signal_fields
from support.fixtures import opened
from support.postgres import query
from support.rig.process import free_port
from support.rig.receiver import Answer, Receiver
from support.scenes.agent import Scene, seed
from support.scenes.votes import complete, reply
from support.signal_log import check_log
from support.waiting import auntil, until

SYMBOLS = ("BTC/USD", "ETH/USD", "SOL/USD")
VOTERS = {"trend": 0.4, "breakout": 0.25, "reversion": 0.2, "volume": 0.15}
HOUR_MS = 60 * MINUTE_MS
MANY = tuple(f"C{number:02}/USD" for number in range(20))
EVERYTHING = """
select tick, symbol, place, outcome, side, encode(hash, 'hex'), content from signals order by tick, place
"""
ARCHIVED = """
insert into bars (symbol, timeframe, start, open, high, low, close, final, rev, source, replay)
select
    symbol, '1h', to_timestamp($2::float8 - 3600 * hour), 100, 102, 99, 100 + hour % 2, true, 0, 'test', false
from unnest($1::text[]) as symbol, generate_series(1, 64) as hour
"""
REFUSAL = """
create function refuse() returns trigger language plpgsql as
$$ begin raise exception 'not now' using errcode = '55000'; end $$
"""
LOCK = "lock table signal_log in exclusive mode"
WAITING = """
select count(*), max(extract(epoch from clock_timestamp() - waitstart))::float from pg_locks
where relation = 'signal_log'::regclass and not granted
"""


def truth(symbols=SYMBOLS, weights=VOTERS, **settings):
    voters = [
        {"voter": name, "kind": "bars", "rule": name, "weight": weight} for name, weight in weights.items()
    ]
    return {
        "services": {
            "bars": {
                "heartbeat": {"interval_sec": 10},
                "endpoints": [{"symbols": list(symbols), "asset": "crypto"}],
            },
            "signals": {
                "heartbeat": {"interval_sec": 0.2, "timeout_sec": 3},
                "endpoints": voters,
                "settings": {"cycle_sec": 0.3, "enter": 0.05, "leave": 0.02, **settings},
            },
        }
    }


class SignalsScene(Scene):
    """A scene with checked bars to publish, and what signals made of them."""

    def __enter__(self):
        super().__enter__()
        self.client = redis.Redis.from_url(self.market.url)
        self.chance, self.closes = random.Random(7), dict.fromkeys((*SYMBOLS, *MANY), 100.0)
        self.next_ms = (
            int(time.time() * 1000) // MINUTE_MS * MINUTE_MS - 42 * MINUTE_MS
        )  # none of them expires
        return self

    def __exit__(self, *about):
        self.client.close()
        super().__exit__(*about)

    def use(self, postgres, archive_url):
        self.database_url = postgres.url_as(DATABASE_SIGNALS, archive_url)
        self.env["SIGNALS_DATABASE_URL"] = self.database_url

    def publish_hours(self, count, symbol):
        """Publish hours of a symbol up to the last one that is over; return their starts."""
        last_ms = int(time.time()) // 3600 * HOUR_MS
        starts = [last_ms - number * HOUR_MS for number in range(count, 0, -1)]
        for number, start_ms in enumerate(starts):
            close = 400.0 + number % 3
            bar = Bar(symbol, "1h", start_ms, close, close + 1, close - 1, close, volume=5.0)
            fields = encode_entry(bar, AssetClass.STOCKS, Provenance("test"))
            self.client.xadd("bars:bars", {**fields, "final": "1"})
        return starts

    def publish(self, count, symbols=SYMBOLS, move=0.01):
        """Publish the next minutes of symbols, which are over."""
        for _ in range(count):
            for symbol in symbols:
                close = round(self.closes[symbol] * (1 + self.chance.choice((-1, 1)) * move), 2)
                bar = Bar(symbol, "1m", self.next_ms, close, close + 0.1, close - 0.1, close, volume=5.0)
                fields = encode_entry(bar, AssetClass.CRYPTO, Provenance("test"))
                self.client.xadd("bars:bars", {**fields, "final": "1"})
                self.closes[symbol] = close
            self.next_ms += MINUTE_MS

    def rows(self):
        return query(self.database_url, EVERYTHING)

    def ticks(self):
        return query(self.database_url, "select n, kind, tick, entry from signal_log order by n")

    def last_tick(self):
        return max(tick or 0 for _, _, tick, _ in self.ticks())

    def published(self):
        return [parse_signal_fields(fields) for _, fields in self.client.xrange("signals:log")]

    def wait_for_tick(self, least=1, within=30):
        return until(
            lambda: (found := self.ticks()) and (found[-1][2] or 0) >= least and found,
            within,
            lambda: f"tick {least}, not {self.ticks()[-3:]}; {self.programs}",
        )

    def move(self, symbols=SYMBOLS):
        """Publish the next minute of symbols, and wait until each was decided again."""
        count = len(self.rows())
        self.publish(1, symbols)
        until(
            lambda: len(self.rows()) >= count + len(symbols),
            60,
            lambda: f"{len(symbols)} places more than {count}, not {len(self.rows())}; {self.programs}",
        )

    def assert_whole(self):
        """Each entry follows the one before, each place hashes to its tick, and each was published once."""

        async def check():
            database = SignalDatabase(self.database_url)
            try:
                return await check_log(database)
            finally:
                await database.aclose()

        accounted = asyncio.run(check())
        assert accounted == list(range(1, len(accounted) + 1))
        stored = [(tick, symbol, ident) for tick, symbol, _, _, _, ident, _ in self.rows()]
        until(
            lambda: len(self.published()) >= len(stored),
            what=lambda: f"{len(stored)} places; {self.programs}",
        )
        assert [(each.tick, each.symbol, each.id) for each in self.published()] == stored


scene = opened(lambda tmp_path: SignalsScene(tmp_path))


@pytest.fixture(autouse=True)
def _database(scene, postgres, archive_url):
    scene.use(postgres, archive_url)


def test_bars_become_signals_in_the_table_and_then_in_the_stream(scene):
    seed(scene.buses, truth(), 1)
    scene.publish(40)
    scene.client.xadd("bars:bars", {"sym": "BTC/USD", "timeframe": "1m", "final": "1", "start": "x" * 5000})
    scene.client.xadd("bars:bars", {"sym": "BTC/USD", "timeframe": "1m", "final": "1", "close": "nan"})
    process = scene.module("services.signals")
    scene.wait_for_tick(3)
    rows = scene.rows()
    assert [row[:4] for row in rows] == [(1, symbol, place, "signal") for place, symbol in enumerate(SYMBOLS)]
    place = orjson.loads(rows[0][-1])
    assert set(place["votes"]) == set(VOTERS)
    assert (place["bars"]["count"], place["bars"]["source"]) == (40, "test")
    assert orjson.loads(scene.ticks()[0][3])["truth"] == "1"
    scene.publish(1)
    until(lambda: len(scene.rows()) > 3, what=lambda: f"a second signal; {scene.programs}")
    scene.assert_whole()
    assert {each.asset for each in scene.published()} == {"crypto"}
    beat = scene.wait_beat(svc="signals", status="ok")
    assert "3 symbols" in beat["detail"]
    assert len(process.logs("bars.refused")) == 1  # the same reason twice


def test_no_voter_sees_bars_of_before_a_split(scene):
    seed(scene.buses, truth(timeframe="1h"), 1)
    starts = {symbol: scene.publish_hours(50, symbol) for symbol in SYMBOLS}[SYMBOLS[0]]
    day = find_day(starts[-2])
    split = CorporateAction(SYMBOLS[0], ActionKind.SPLIT, day, ratio=4.0)
    scene.client.xadd("market:actions", encode_entry(split, AssetClass.STOCKS, Provenance("test")))
    scene.client.xadd("market:actions", {"sym": SYMBOLS[0], "kind": "split", "ex_day": "x" * 5000})
    scene.module("services.signals")
    scene.wait_for_tick()
    seen = {symbol: orjson.loads(content)["bars"] for _, symbol, *_, content in scene.rows()}
    assert seen[SYMBOLS[0]]["first"] == find_day_ms(day)
    assert seen[SYMBOLS[0]]["last"] == starts[-1]
    assert {seen[symbol]["count"] for symbol in SYMBOLS[1:]} == {50}


def test_what_the_stream_holds_no_more_is_of_the_archive_at_a_start_and_after_a_reseed(scene, archive_url):
    query(archive_url, ARCHIVED, list(SYMBOLS), int(time.time()) // 3600 * 3600)
    seed(scene.buses, truth(SYMBOLS[:2], timeframe="1h"), 1)
    last_ms = scene.publish_hours(1, SYMBOLS[0])[0]
    scene.module("services.signals")
    scene.wait_for_tick()
    seed(scene.buses, truth(SYMBOLS, timeframe="1h"), 2)
    until(lambda: len(scene.rows()) >= 3, what=lambda: f"the third symbol; {scene.programs}")
    places = {symbol: orjson.loads(content) for _, symbol, *_, content in scene.rows()}
    assert {symbol: places[symbol]["bars"]["count"] for symbol in SYMBOLS} == dict.fromkeys(SYMBOLS, 64)
    assert {place["bars"]["last"] for place in places.values()} == {last_ms}
    # that of the stream counts, where both have a bar
    assert [places[symbol]["price"] for symbol in SYMBOLS] == ["400", "101", "101"]


def test_a_reseed_counts_from_the_next_tick_on(scene):
    seed(scene.buses, truth(), 1)
    scene.publish(40)
    scene.module("services.signals")
    scene.wait_for_tick(2)
    seed(scene.buses, truth(SYMBOLS[:2], {"trend": 1, "volume": 1}), 2)
    until(
        lambda: orjson.loads(scene.ticks()[-1][3]).get("places") == 2,
        what=lambda: f"a tick of two symbols, {scene.ticks()[-2:]}; {scene.programs}",
    )
    scene.publish(1, SYMBOLS[:2], 0.02)
    until(lambda: scene.rows()[-1][0] > 2, what=lambda: f"a new signal; {scene.programs}")
    assert set(orjson.loads(scene.rows()[-1][-1])["votes"]) == {"trend", "volume"}
    assert orjson.loads(scene.ticks()[-1][3])["truth"] == "2"
    scene.assert_whole()
    stored = dict(query(scene.database_url, "select encode(digest, 'hex'), rules from signal_rules"))
    first, last = (orjson.loads(stored[orjson.loads(scene.ticks()[n][3])["rules"]]) for n in (0, -1))
    assert set(first["weights"]) == set(VOTERS)
    assert last["weights"] == {"trend": "1.000000000000", "volume": "1.000000000000"}
    assert len(stored) == 2, "each is stored once"


def test_a_model_words_what_changed_and_its_log_is_the_same_whatever_it_says(scene):
    with Receiver() as model:
        model.always = complete(orjson.dumps({"side": "long", "sentence": "<b>up\u202e</b>\n2 x 9 = 18"}))
        wording = {"url": f"http://127.0.0.1:{model.port}/v1", "model": "grok-4"}
        seed(scene.buses, truth(MANY, wording={**wording, "at_once": 20, "calls_per_cycle": 20}), 1)
        scene.publish(40, MANY)
        scene.module("services.signals")
        words = "select tick, symbol, model, text from signal_wordings order by tick, symbol"
        worded = until(lambda: query(scene.database_url, words), 60, lambda: f"a wording; {scene.programs}")
        model.always = Answer(hang=True)
        before = scene.last_tick()
        scene.publish(1, MANY, 0.05)
        scene.wait_for_tick(before + 3)  # no tick waits for it
    sides = {(row[0], row[1]): row[4] for row in scene.rows()}
    before = {(row[0], row[1]): orjson.loads(row[-1])["before"] for row in scene.rows()}
    for tick, symbol, name, text in worded:
        assert (name, text) == ("grok-4", "<b>up </b> 2 x 9 = 18")
        assert (sides[tick, symbol], before[tick, symbol]) == ("long", "flat"), "no other side was taken"
    entries = [parse_wording_fields(fields) for _, fields in scene.client.xrange("signals:wordings")]
    assert {(one.tick, one.symbol) for one in entries} >= {row[:2] for row in worded}
    assert {one.id for one in entries} <= {row[5] for row in scene.rows()}
    scene.assert_whole()


def test_a_witness_that_only_the_environment_names_is_known_on_the_bus(scene, tmp_path):
    make_key_file(tmp_path / "log.key", "test/signals", SignatureKind.ED25519)
    witness = make_key_file(tmp_path / "witness.key", "test/witness", SignatureKind.COSIGNATURE)
    scene.env |= {
        "SIGNALS_LOG_KEY_FILE": str(tmp_path / "log.key"),
        "SIGNALS_WITNESS_URL": f"http://127.0.0.1:{free_port()}",
        "SIGNALS_WITNESS_KEY": str(witness),
    }
    seed(scene.buses, truth(origin="test/signals", checkpoint_sec=1), 1)
    scene.publish(40)
    scene.module("services.signals")
    silent = WitnessReport(named=True, reason="away")

    def read():
        return parse_witness_report(scene.client.get("signals:witness"))

    until(lambda: read() == silent, 60, lambda: f"a silent witness, not {read()}; {scene.programs}")


def test_the_other_instance_goes_on_when_the_leader_is_killed(scene):
    seed(scene.buses, truth(), 1)
    scene.publish(40)
    leader = scene.module("services.signals")
    scene.wait_for_tick(2)
    other = scene.module("services.signals")
    until(lambda: "stands by" in str(scene.beat("signals")), what=lambda: f"one that stands by; {other}")
    scene.publish(1)
    leader.kill()
    before = scene.last_tick()
    scene.publish(1)
    scene.wait_for_tick(before + 3, 60)
    gaps = [orjson.loads(entry) for _, kind, _, entry in scene.ticks() if kind == "gap"]
    assert [gap["reason"] for gap in gaps] == ["restarted"]
    scene.assert_whole()
    assert other.running


def test_no_tick_is_decided_while_postgresql_is_away_and_a_gap_says_so(scene, breakable_postgres):
    seed(scene.buses, truth(), 1)
    scene.publish(40)
    scene.module("services.signals")
    scene.wait_for_tick(2)
    breakable_postgres.halt()
    scene.wait_beat(svc="signals", status="degraded")
    assert "no tick is decided: PostgreSQL" in scene.beat("signals")["detail"]
    scene.publish(2)
    time_away = time.monotonic()
    until(lambda: time.monotonic() - time_away > 1.5, what="some cycles")
    breakable_postgres.start()
    until(
        lambda: any(kind == "gap" for _, kind, _, _ in scene.ticks()),
        60,
        lambda: f"a gap, not {scene.ticks()[-2:]}; {scene.programs}",
    )
    until(lambda: scene.ticks()[-1][1] == "tick", what="a tick after it")
    (gap,) = [orjson.loads(entry) for _, kind, _, entry in scene.ticks() if kind == "gap"]
    assert gap["reason"] == "database_away"
    assert gap["last"] - gap["first"] >= 2
    scene.wait_beat(svc="signals", status="ok")
    scene.assert_whole()


def test_a_vote_that_comes_while_no_tick_can_be_stored_counts_in_the_next_that_can(scene, archive_url):
    with Receiver() as voter:
        voter.always = replace(reply(direction="down", strength=1.0, confidence=1.0), after_sec=6)
        document = truth(skip_move=0.5)
        document["services"]["signals"]["endpoints"].append(
            {"voter": "mine", "kind": "http", "url": f"http://127.0.0.1:{voter.port}/", "weight": 0.5}
        )
        seed(scene.buses, document, 1)
        scene.publish(40)
        scene.module("services.signals")
        scene.wait_for_tick(1)
        places = [
            (outcome, orjson.loads(content)["votes"]["mine"])
            for _, _, _, outcome, *_, content in scene.rows()
        ]
        assert places == [("signal", {"abstained": "late"})] * len(SYMBOLS)
        for line in (REFUSAL, "create trigger refusal before insert on signal_log execute function refuse()"):
            query(archive_url, line)
        until(lambda: len(voter.seen) >= len(SYMBOLS), 60, lambda: f"questions; {scene.programs}")
        asked = time.monotonic()
        until(lambda: time.monotonic() - asked > 9, what="the answers, and cycles after them")
        query(archive_url, "drop trigger refusal on signal_log")
        until(
            lambda: (
                {row[1] for row in scene.rows() if "abstained" not in orjson.loads(row[-1])["votes"]["mine"]}
                == set(SYMBOLS)
            ),
            60,
            lambda: f"places by these votes, not {scene.rows()}; {scene.programs}",
        )
    scene.assert_whole()


def test_after_a_leader_whose_clock_was_ahead_no_entry_says_an_earlier_time(scene, breakable_postgres):
    seed(scene.buses, truth(), 1)
    scene.publish(40)
    process = scene.module("services.signals")
    scene.wait_for_tick(2)
    process.kill()
    ahead_ms = round(1000 * time.time()) + HOUR_MS

    async def write_ahead():
        """Add an entry, as another leader does whose clock is an hour ahead; return its tick."""
        database = SignalDatabase(scene.database_url)
        try:
            writer = SignalWriter(database)
            await writer.begin_epoch("ahead")
            tick = (await writer.read_state()).last_tick + 1
            await writer.write_gap(tick, tick, ahead_ms, "restarted")
        finally:
            await database.aclose()
        return tick

    tick = asyncio.run(write_ahead())
    scene.module("services.signals")
    scene.wait_beat(svc="signals", status="degraded")
    assert "s behind the last entry of the log" in scene.beat("signals")["detail"]
    scene.publish(1)
    until(lambda: len(scene.rows()) > 3, 60, lambda: f"a place after it; {scene.programs}")
    scene.wait_for_tick(tick + 2)
    scene.assert_whole()
    ahead = {entry["at"] for entry in (orjson.loads(row[3]) for row in scene.ticks()) if entry["n"] > tick}
    assert len(ahead) == 1
    # what is missed meanwhile is counted by the time that passed
    breakable_postgres.halt()
    until(
        lambda: "no tick is decided" in scene.beat("signals")["detail"],
        60,
        lambda: f"a beat that says so; {scene.programs}",
    )
    breakable_postgres.start()
    until(
        lambda: [kind for _, kind, _, _ in scene.ticks()].count("gap") == 2,
        60,
        lambda: f"a gap, not {scene.ticks()[-2:]}; {scene.programs}",
    )
    scene.assert_whole()


def test_what_could_not_be_published_is_published_later(scene):
    seed(scene.buses, truth(), 1)
    scene.client.set("signals:log", "no stream")
    scene.publish(40)
    process = scene.module("services.signals")
    scene.wait_for_tick(3)
    scene.wait_beat(svc="signals", status="degraded")
    assert "places are not published" in scene.beat("signals")["detail"]
    process.kill()  # the next leader publishes what is stored
    scene.client.delete("signals:log")
    scene.module("services.signals")
    until(lambda: len(scene.published()) >= 3, 60, lambda: f"three places; {scene.programs}")
    scene.assert_whole()


def test_an_older_leader_adds_nothing_any_more(scene):
    seed(scene.buses, truth(), 1)
    scene.publish(40)
    process = scene.module("services.signals")
    scene.wait_for_tick(2)
    query(
        scene.database_url,
        "insert into signal_epochs select max(epoch) + 1, now(), 'another' from signal_epochs returning 1",
    )
    until(lambda: len(process.logs("leader.began")) >= 2, 60, lambda: f"a new term; {process}")
    scene.wait_for_tick(scene.last_tick() + 2)
    scene.assert_whole()


def test_a_restart_forgets_no_votes_of_which_the_effective_number_of_votes_is_made(scene):
    seed(scene.buses, truth(MANY, skip_move=0), 1)
    scene.publish(40, MANY)
    process = scene.module("services.signals")
    until(lambda: len(scene.rows()) >= len(MANY), 60, lambda: f"a place of each; {scene.programs}")
    scene.move(MANY)
    process.kill()
    before = scene.last_tick()
    scene.module("services.signals")
    scene.wait_for_tick(before + 1, 60)
    scene.move(MANY)
    rows = scene.rows()
    last = orjson.loads(rows[-1][-1])
    assert last["tick"] > before
    assert last["correlations"], "the process that is new has not seen thirty common votes itself"
    assert float(last["effective"]) != pytest.approx(3.508771929825), "they count"
    for tick in {row[0] for row in rows}:
        votes = CommonVotes(VOTERS)
        votes.add(list_opinions((row[-1] for row in reversed(rows) if row[0] < tick), VOTERS))
        expected = {pair: format_number(value) for pair, value in name_pairs(votes.correlate()).items()}
        for place in (orjson.loads(row[-1]) for row in rows if row[0] == tick):
            assert place.get("correlations", {}) == expected, f"tick {tick}, restarted after {before}"


def test_a_reseed_that_changes_nothing_of_the_consensus_keeps_each_side(scene):
    seed(scene.buses, truth(MANY, skip_move=0), 1)
    scene.publish(40, MANY)
    scene.module("services.signals")
    until(lambda: len(scene.rows()) >= len(MANY), 60, lambda: f"a place of each; {scene.programs}")
    seed(scene.buses, truth(MANY, skip_move=0, keep=5000), 2)
    until(
        lambda: orjson.loads(scene.ticks()[-1][3]).get("truth") == "2",
        what=lambda: f"a tick of revision 2; {scene.programs}",
    )
    scene.move(MANY)
    rows = scene.rows()
    sides = {symbol: orjson.loads(content) for _, symbol, *_, content in rows[: len(MANY)]}
    assert {"long", "short"} & {each["side"] for each in sides.values()}
    for _, symbol, *_, content in rows[len(MANY) :]:
        place = orjson.loads(content)
        first = sides[symbol]
        assert place["before"] == first["side"], place
        began = first["as_of"] if first["side"] != first["before"] else None
        assert place.get("changed") == began, "it is known since when, and the cool-down goes by that"
    reasons = {orjson.loads(entry)["reason"] for _, kind, _, entry in scene.ticks() if kind == "gap"}
    assert reasons <= {"slow"}, "no tick is left out for it"


def test_while_ticks_take_longer_than_a_cycle_the_beat_is_degraded(scene, archive_url):
    seed(scene.buses, truth(cycle_sec=1), 1)
    scene.publish(40)
    process = scene.module("services.signals")
    scene.wait_for_tick(2)
    degraded = asyncio.run(hold_up_ticks(scene, archive_url))
    assert "a tick took " in degraded["detail"], degraded
    assert " s, and ticks are due every 1 s" in degraded["detail"]
    scene.wait_beat(svc="signals", status="ok")
    assert process.logs("ticks.slow")
    assert process.logs("ticks.in_time")
    gaps = [orjson.loads(entry) for _, kind, _, entry in scene.ticks() if kind == "gap"]
    assert {gap["reason"] for gap in gaps} == {"slow"}
    assert max(gap["last"] - gap["first"] for gap in gaps) >= 1


async def hold_up_ticks(scene, url):
    """Have a tick wait for more than three cycles, and the next one until a beat is degraded; return that."""
    first, second, looking = [await asyncpg.connect(url) for _ in range(3)]

    async def wait_for(count, sec):
        async def is_so():
            waiting, longest_sec = await looking.fetchrow(WAITING)
            return waiting >= count and longest_sec > sec

        await auntil(is_so, what=f"{count} that wait, one of them for {sec} s")

    try:
        async with first.transaction():
            await first.execute(LOCK)
            await wait_for(1, 3.2)
            holding = second.transaction()
            await holding.start()
            locked = asyncio.create_task(second.execute(LOCK))  # it is after the tick in the queue
            await wait_for(2, 0)
        await locked
        return await auntil(
            lambda: (beat := scene.beat("signals")).get("status") == "degraded" and beat,
            what=f"a beat that is degraded; {scene.programs}",
        )
    finally:
        for connection in (first, second, looking):
            await connection.close()
