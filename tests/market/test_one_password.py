"""One password of the fleet does not end or silence another program, nor have it report what is not so.

By each user that `marketswarm acl` makes, to each key, stream and channel that its rights let it write,
hostile values are written while all programs of `marketswarm up --acl` run: integers beyond 64 bits, JSON
that is 300 levels deep, values of another type, ids at the end of all ids, values as large as the server
takes, times far ahead, control characters. Then what it has written is deleted, as an operator would, and the
fleet must work. docs/security.md says what each password allows all the same.
"""

import contextlib
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from marketswarm.agent.service_config import load_with_sections
from support.hostile_writes import (
    Attack,
    Extent,
    find_keys,
    list_ending,
    list_growing,
    list_places,
    list_replacing,
    list_retyping,
    make_name,
    make_scalars,
    mutate_document,
    read_sample,
)
from support.postgres import query
from support.recordings import SHIPPED
from support.rig import HOST, PLAIN, Proc, Server, free_port
from support.rig.receiver import Receiver
from support.rig.shell import Shell
from support.scenes.bars import MINUTE, fields_of, walk
from support.waiting import until

pytestmark = [
    pytest.mark.live,
    pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="`up` looks for children in /proc"),
]

ROOT = Path(__file__).parents[2]
BUSES = SYSTEM, MARKET = "system-redis", "market-redis"
PROBED = "PROBE/USD"
BEATS = 5
"""So many beats of every program are waited for: each has read by then what it reads every few seconds."""
SOME_BEATS = 2
WITHIN_SEC = 60.0
LARGEST = 32 * 1024 * 1024
"""The largest value that a server of `marketswarm up` takes (`proto-max-bulk-len`)."""
SEEDERS = ("operator", "bootstrap", "board")
BEATS_FOR_ALL = ("operator", "board")
"""The users that may beat for every service: nobody knows afterwards whose beats are true."""
RESTORED = (b"truth:", b"board:tokens", b"board:pings")
"""The beginnings of keys that only people could write again; what else an attack has written is deleted."""


def make_truth() -> dict[str, Any]:
    """Return a truth with all services of ours, which beat often."""
    document = orjson.loads((ROOT / "truth.json").read_bytes())
    station = orjson.loads((ROOT / "examples/market.json").read_bytes())["services"]
    services = document["services"]
    services |= {svc: station[svc] for svc in ("sources", "bars", "archive", "board")}
    for section in services.values():
        section["heartbeat"] |= {"interval_sec": 0.5, "timeout_sec": 30}
        section.pop("depends_on", None)
    services["healer"]["threshold"] = {"heartbeat_cadence": 30}
    targets = [{"name": SYSTEM, "bus": SYSTEM}]
    services["massive"]["settings"] = {"probe_sec": 2, "targets": targets}
    series = {"symbol": "BTC/USD", "group": "crypto", "asset": "crypto", "every_sec": 60}
    services["sources"]["endpoints"] = [
        {**series, "kind": "bars", "timeframe": "1m", "from": ["replay_a", "replay_b"]},
        {**series, "kind": "quotes", "from": ["replay_a", "replay_b"]},
    ]
    services["sources"]["settings"]["replay"] |= {"file": SHIPPED.name, "speed": 60}
    services["bars"]["endpoints"] = [{"symbols": ["BTC/USD", PROBED], "asset": "crypto"}]
    services["bars"]["settings"] = {"benchmark": "BTC/USD"}
    return document


class AttackedFleet:
    """A fleet with users, a client that may do all, and what people are told."""

    def __init__(self, folder: Path, receiver: Receiver) -> None:
        self.folder, self.receiver = folder, receiver
        self.port, self.board_port, self.shell = free_port(), free_port(), Shell(folder)
        self.shell.write(make_truth())
        (folder / SHIPPED.name).symlink_to(SHIPPED)
        self.truth = load_with_sections((folder / "truth.json").read_bytes()).truth
        begin = (int(time.time()) // 60 - 600) * MINUTE
        self.minutes = walk(range(begin, begin + 500 * MINUTE, MINUTE), 1, PROBED)
        self.doubtful = set[str]()  # the services for which an attacker may have beaten
        self.proven = self.seen_ends = self.starts = 0
        env = {"WEBHOOK_URL": receiver.url, "BOARD_PORT": str(self.board_port), "RATE_LIMIT_SEC": "0"}
        self.up = Proc("marketswarm", env, folder, "up", "--acl", "--port", str(self.port))
        self.await_buses()
        self.await_up()

    def await_up(self) -> None:
        """Wait until every program beats for the first time."""
        until(lambda: len(self.up.logs("fleet.up")) == self.starts, 120, self.describe_troubles)

    def await_buses(self) -> None:
        """Wait until the servers of this start are ready, and make a user there that may do all."""
        self.starts += 1
        until(lambda: len(self.up.logs("bus.ready")) == 2 * self.starts, 120, self.describe_troubles)
        for bus in BUSES:
            with (self.folder / ".marketswarm" / bus / "users.acl").open("a", encoding="utf-8") as users:
                users.write("user ear reset on >pw ~* &* +@all\n")
            with contextlib.closing(self.enter(bus, "operator")) as operator:
                operator.execute_command("ACL", "LOAD")
        self.admins = {bus: self.enter(bus, "ear") for bus in BUSES}

    def restart(self) -> None:
        """End the fleet and start it again, with all that its servers hold; wait until its programs had time.

        Those whose own stream was ended beat once it is deleted: `up` says then for whom it waits.
        """
        self.close_clients()
        assert self.up.stop(30) == 0
        known = len(self.list_outcomes())
        self.up.start()
        self.await_buses()
        until(lambda: len(self.list_outcomes()) > known, 120, self.describe_troubles)

    def list_outcomes(self) -> list[dict[str, Any]]:
        """Return what the fleet said of its starts: all programs beat, or some are late."""
        return [*self.up.logs("fleet.up"), *self.up.logs("fleet.waiting")]

    def close_clients(self) -> None:
        for client in self.admins.values():
            client.close()

    def enter(self, bus: str, user: str) -> Any:
        password = "pw" if user == "ear" else self.read(f"secrets/{user}")
        retry, port = Retry(NoBackoff(), 0), self.port + BUSES.index(bus)
        return redis.Redis(HOST, port, username=user, password=password, socket_timeout=60, retry=retry)

    def read(self, name: str) -> str:
        return (self.folder / ".marketswarm" / name).read_text(encoding="utf-8").strip()

    def list_users(self) -> list[str]:
        """Return the users that may write anything."""
        users = dict.fromkeys(user for bus in BUSES for user in list_places(self.truth, bus))
        return sorted(users, key=SEEDERS.__contains__)  # what they make doubtful is asked of no other

    # -- attacks

    def attack(self, user: str, turn: int, extent: Extent, spared: tuple[bytes, ...] = ()) -> Attack:
        """Have a user write all it can, but to the keys that begin with `spared`.

        In even turns it writes hostile values of each key's type, and ids at the end of all ids; in odd ones
        values of another type.
        """
        done = Attack(user)
        if extent.big == LARGEST:  # they take all of a server's time: that it does not answer is not false
            self.doubtful |= set(BUSES)
        self.doubtful |= set(self.truth.services) if user in BEATS_FOR_ALL else {user}
        for bus in BUSES:
            places = list_places(self.truth, bus).get(user)
            if places is None:
                continue
            admin = self.admins[bus]
            keys = [
                key for key in find_keys(admin, places.keys, extent.keys, user) if not key.startswith(spared)
            ]
            samples = {key: read_sample(admin, key) for key in keys}
            done.before |= {(bus, key): admin.dump(key) for key in keys}
            with contextlib.closing(self.enter(bus, user)) as client:
                for key, sample in samples.items():
                    if turn % 2:
                        done.run(client, admin, bus, list_retyping(key, sample, turn))
                        continue
                    done.run(client, admin, bus, list_growing(key, sample, extent))
                    done.run(client, admin, bus, list_replacing(key, sample, turn, extent))
                    done.run(client, admin, bus, list_ending(key, int(1000 * time.time())))
                for pattern in () if turn % 2 else places.channels:
                    done.run(client, admin, bus, self.list_messages(make_name(pattern), extent))
        return done

    def list_messages(self, channel: str, extent: Extent) -> Iterator[tuple[Any, ...]]:
        """Yield messages for a channel; of one of beats, also some that are nearly beats."""
        beat = self.admins[SYSTEM].get(f"beat:{channel.removesuffix(':heartbeat')}") or b""
        for value in (*make_scalars(extent.big), *mutate_document(beat, extent.most, channel)):
            yield ("PUBLISH", channel, value)

    def repair(self, done: Attack) -> None:
        """Delete what an attack has written, and restore what only people could write again."""
        for bus, key in done.written:
            self.admins[bus].delete(key)
            dump = done.before.get((bus, key))
            if dump is not None and key.startswith(RESTORED):
                self.admins[bus].restore(key, 0, dump)

    # -- what must hold

    def require_alive(self, attacker: str, beats: int = BEATS) -> None:
        """Fail if another program is silent for so many beats, or has ended since the last time."""
        left = dict.fromkeys(set(self.truth.services) - {attacker}, beats)
        with contextlib.ExitStack() as ends:
            heard = [ends.enter_context(self.admins[bus].pubsub()) for bus in BUSES]
            for each in heard:
                each.psubscribe("*:heartbeat")

            def all_beat() -> bool:
                for each in heard:
                    while (message := each.get_message(timeout=0.01)) is not None:
                        svc = message["channel"].decode().removesuffix(":heartbeat")
                        if message["type"] == "pmessage" and svc in left:
                            left[svc] -= 1
                return max(left.values()) <= 0

            until(all_beat, WITHIN_SEC, lambda: f"beats of {[svc for svc in left if left[svc] > 0]}")
        self.require_no_end(attacker)

    def require_no_end(self, attacker: str) -> None:
        """Fail if another program has ended since the last time."""
        ended = [line["svc"] for line in self.up.logs("agent.ended")][self.seen_ends :]
        self.seen_ends += len(ended)
        assert not set(ended) - {attacker}, f"{ended} ended: {self.describe_troubles()}"

    def require_pages(self, attacker: str) -> None:
        """Fail if a route of the board fails by what it reads, or calls another service down."""
        with httpx.Client(base_url=f"http://{HOST}:{self.board_port}/", timeout=30, verify=PLAIN) as board:
            for path, ways in board.get("/api/v1/openapi.json").json()["paths"].items():
                if "get" in ways and "{" not in path and not path.endswith("/stream"):
                    status = board.get(path).status_code
                    # 503: not there yet, or away
                    assert status < 500 or status == 503, f"{path}: {status}; {self.describe_troubles()}"
            if attacker != "healer":  # whose word that is
                rows = board.get("/api/v1/services").json()
                states = {row["svc"]: row["state"] for row in rows if row["svc"] not in self.doubtful}
                assert set(states.values()) <= {"up"}, states

    def require_no_false_alert(self, begun: float, user: str, idents: set[bytes]) -> None:
        """Fail if anything was reported since a time that is neither the attacker's own word nor about it."""
        for bus in BUSES:
            log: Any = []
            with contextlib.suppress(redis.ResponseError):  # of another type, by the attacker
                log = self.admins[bus].xrange("healer:alerts:log", min=int(1000 * begun))
            for ident, fields in log:
                if ident not in idents:
                    event = orjson.loads(fields[b"event"])
                    assert self.is_claimable(user, event), f"by {user}: {event}"

    def is_claimable(self, user: str, event: dict[str, Any]) -> bool:
        """Return True if an event is ours, or about what a password lets its user claim.

        What bars or sources took for wrong is a fact, and medic counts it for an hour: also after the turn of
        who wrote it.
        """
        svc, kind = event["svc"], event["type"]
        by_seeders = kind.startswith("truth") and bool(self.doubtful.intersection(SEEDERS))
        own = {"massive": ("massive/",), "sources": ("source:",), "medic": ("medic/",)}
        prefixes = ("massive/t", "medic/quarantine/", "medic/bad_source/", *own.get(user, ()))
        return svc in self.doubtful or by_seeders or svc.startswith(prefixes)

    def require_flow(self) -> None:
        """Fail if what enters the fleet does not come out of it: an alert, a bar, an item, a request."""
        self.proven += 1
        system, market = self.admins[SYSTEM], self.admins[MARKET]
        name, ts = f"t{self.proven}", round(time.time(), 3)
        ident, svc = f"probe_miss.massive:{name}.{round(1000 * ts)}", f"massive/{name}"
        event = {
            "type": "probe_miss",
            "svc": svc,
            "ts": ts,
            "id": ident,
            "by": "massive",
            "reason": "refused",
        }
        bar, loaded = self.minutes[self.proven], self.count_rows("downloads")
        system.delete("mesh:topology")
        system.xadd("massive:alerts", {"event": orjson.dumps(event)})
        market.xadd("market:bars", fields_of(bar))
        market.xadd("rss:items", {"id": name, "title": "about $PROBE"})
        start = f"symbol = '{PROBED}' AND start = to_timestamp({bar.start_ms // 1000})"
        told = lambda kind: any(each["type"] == kind for each in self.receiver.taken(svc))  # noqa: E731
        for what, is_there in {
            "the alert at the receiver": lambda: told("probe_miss"),
            "the alert in the archive": lambda: self.count_rows("alerts", f"id = '{ident}'"),
            "the bar in the archive": lambda: self.count_rows("bars", start),
            "a request of sources in the archive": lambda: self.count_rows("downloads") > loaded,
            "the note about an item": lambda: self.has_entry("vexy:notes", b"id", name.encode()),
            "who runs, by mesh": lambda: system.exists("mesh:topology"),
        }.items():
            until(is_there, WITHIN_SEC, lambda what=what: f"{what}: {self.describe_troubles()}")
        done = self.shell("notify", "test", "--within", "40s")
        assert done.returncode == 0, f"{done.stdout} {done.stderr} {self.describe_troubles()}"

    def has_entry(self, stream: str, field: bytes, value: bytes) -> bool:
        entries = self.admins[MARKET].xrevrange(stream, count=500)
        return any(fields.get(field) == value for _, fields in entries)

    def count_rows(self, table: str, where: str = "true") -> int:
        sql = f"SELECT count(*) FROM {table} WHERE {where}"  # noqa: S608 - our own names
        return int(query(self.read("postgres/url"), sql)[0][0])

    def describe_troubles(self) -> str:
        """Return the last troubles in the log of the fleet, and why its tasks died."""
        died = [line.get("exception", "")[-1500:] for line in self.up.logs("task.died")[-3:]]
        lines = [line[:500] for line in self.up.text().splitlines() if '"level":"info"' not in line]
        return "\n".join([*died, *lines[-15:]])


@pytest.fixture
def fleet(tmp_path):
    with Receiver() as receiver:
        fleet = AttackedFleet(tmp_path, receiver)
        try:
            yield fleet
        finally:
            fleet.close_clients()
            fleet.up.stop(30)


class Problems:
    """Collect what does not hold, by who attacked: one run shows all of it."""

    def __init__(self) -> None:
        self.found: list[str] = []

    def check(self, who: str, *steps: Callable[[], Any]) -> None:
        for step in steps:
            try:
                step()
            except (AssertionError, httpx.HTTPError) as error:
                self.found.append(f"by {who}: {type(error).__name__}: {error}")

    def require_none(self) -> None:
        assert not self.found, "\n\n".join(self.found)


def attack_one_by_one(fleet, problems, *, turns, extent, prove_every):
    """Attack by each user, and check after each one's turns; of every few, that the fleet works afterwards.

    Each of `turns` is one turn, or several that follow one another as soon as every program lives on.
    """
    users = fleet.list_users()
    for number, user in enumerate(users, 1):
        for together in turns:
            begun, attacks = time.time(), []
            for turn in together:
                if attacks:
                    problems.check(user, partial(fleet.require_alive, user, SOME_BEATS))
                attacks.append(fleet.attack(user, turn, extent))
                assert attacks[-1].taken, user
            idents = {ident for done in attacks for ident in done.idents}
            problems.check(
                user,
                partial(fleet.require_alive, user),
                partial(fleet.require_pages, user),
                partial(fleet.require_no_false_alert, begun, user, idents),
            )
            for done in reversed(attacks):  # the first one knows what was there before
                fleet.repair(done)
        if number % prove_every == 0 or number == len(users):
            problems.check(user, fleet.require_flow)


def restart_with_all(fleet, problems, turn, extent):
    """Attack by all users, restart the whole fleet with what is there then, and repair it."""
    done = [fleet.attack(user, turn, extent, spared=(b"truth:",)) for user in fleet.list_users()]
    problems.check("all", fleet.restart, lambda: fleet.require_no_end(""))
    for each in done:
        fleet.repair(each)
    problems.check("all", fleet.await_up, lambda: fleet.require_alive(""), fleet.require_flow)


def test_an_attacker_whose_server_closes_it_goes_on_and_one_whose_server_died_fails(tmp_path):
    """What the attacks rely on: a value of the largest size may cost an attacker its connection."""
    with Server(tmp_path, maxmemory_clients="8mb") as server:
        attacker, admin = (redis.Redis(HOST, server.port, retry=Retry(NoBackoff(), 0)) for _ in range(2))
        with contextlib.closing(attacker), contextlib.closing(admin):
            sent = [("XADD", b"log", "*", "event", value) for value in ("{}", "x" * LARGEST, "[]")]
            done = Attack("x")
            done.run(attacker, admin, MARKET, sent)
            assert (done.taken, done.refused, done.written) == (2, 1, {(MARKET, b"log")})
            assert done.idents == {ident for ident, _ in admin.xrange(b"log")}
            attacker.connection_pool.disconnect()
            server.kill()
            with pytest.raises(redis.ConnectionError):
                done.run(attacker, admin, MARKET, sent)


@pytest.mark.timeout(900)
def test_no_password_ends_silences_or_misleads_another_program(fleet):
    problems, extent = Problems(), Extent()
    fleet.require_alive("")
    fleet.require_flow()
    attack_one_by_one(fleet, problems, turns=[(0, 1)], extent=extent, prove_every=5)
    restart_with_all(fleet, problems, 0, extent)
    problems.require_none()


@pytest.mark.timeout(1800)
@pytest.mark.nightly("test_no_password_ends_silences_or_misleads_another_program writes some of these values")
@pytest.mark.parametrize("turn", [0, 1])
@pytest.mark.parametrize(
    "extent", [Extent(most=200, keys=10), Extent(big=LARGEST)], ids=["many values", "the largest"]
)
def test_no_password_does_so_with_more_values_and_larger_ones(fleet, extent, turn):
    problems = Problems()
    attack_one_by_one(fleet, problems, turns=[(turn,)], extent=extent, prove_every=4)
    restart_with_all(fleet, problems, turn, extent)
    problems.require_none()
