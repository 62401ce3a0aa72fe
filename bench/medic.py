"""Measure what one cycle of the medic costs over 200 services that run in containers.

The buses, the healer and the medic are real; an engine that answers as the Docker Engine API documents it is
a process of its own. A cycle is a look at the fleet and at the containers, each second, with a part of what
is done less often: each tenth measures the memory of all containers for the rules, and reads what is new in
their logs. The bench compares it with a bare loop that sends the same requests to engine and buses with
blocking sockets, and parses the answers.

    python -m bench.medic engine SOCKET CONTAINERS
"""

import asyncio
import contextlib
import socket
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import hiredis
import orjson
import redis

from bench.beats import Beats, name_services
from bench.figures import Pair, Sample
from bench.healer import is_watching, make_sections
from bench.programs import Usage, Worker, answer, read_order, run_program, wait_until
from bench.server import connect, pack_command, send_commands, start_buses
from marketswarm.keys import last_beat_key, last_run_key, roster_key
from marketswarm.truth import HEALER
from services.medic.owners import engine as engine_module
from services.medic.owners.engine import ContainerEngine

SERVICES: Final = 200
INTERVAL_SEC: Final = 10.0
MEASURE_SEC: Final = 40.0
"""Four times as long as it is from one measurement for the rules to the next."""
LOOKS: Final = 40
PROJECT: Final = "bench"
LOG_OPTIONS: Final = "stdout=true&stderr=true&timestamps=true&since=1767323045&tail=500"
STARTED: Final = "2026-01-02T03:04:05.678901234Z"
PAD: Final = {"Labels": {"org.opencontainers.image.title": "x" * 40}, "Cmd": ["python", "-m", "services.x"]}


def make_answers(containers: int) -> dict[str, bytes]:
    """Return the body of each GET by its path without the version; they are as long as those of an engine."""
    names = {f"{number:064x}": svc for number, svc in enumerate(name_services(containers))}
    bodies: dict[str, Any] = {"/containers/json": [_make_entry(*each) for each in names.items()]}
    for name in names:
        state = {
            "Status": "running",
            "Running": True,
            "OOMKilled": False,
            "ExitCode": 0,
            "StartedAt": STARTED,
        }
        pad = [PAD] * 25
        bodies[f"/containers/{name}/json"] = {"Id": name, "RestartCount": 0, "State": state, "Config": pad}
        details = {"inactive_file": 20_000_000, **{f"stat_{n}": n for n in range(35)}}
        memory = {"usage": 80_000_000, "limit": 268_435_456, "stats": details}
        cpu = {"cpu_usage": {"total_usage": 10**9, "usage_in_usermode": 10**8}, "online_cpus": 8}
        io = [{"major": 259, "minor": n, "op": "read", "value": 10**6} for n in range(10)]
        bodies[f"/containers/{name}/stats"] = {
            "id": name, "name": "/x", "memory_stats": memory, "cpu_stats": cpu, "precpu_stats": cpu,
            "blkio_stats": {"io_service_bytes_recursive": io},
            "networks": {"eth0": {f"{way}_{what}": 10**6 for way in ("rx", "tx") for what in "abcd"}},
        }  # fmt: skip
    logs = {f"/containers/{name}/logs": _make_log(svc) for name, svc in names.items()}
    return {path: orjson.dumps(body) for path, body in bodies.items()} | logs


def _make_entry(name: str, svc: str) -> dict[str, Any]:
    labels = {"com.docker.compose.project": PROJECT, "com.docker.compose.service": svc}
    labels |= {f"com.docker.compose.label_{number}": "x" * 40 for number in range(8)}
    mounts = [{"Type": "volume", "Name": "x", "Destination": "/x", "Mode": "z", "RW": True}] * 2
    state = {"State": "running", "Status": "Up 3 hours", "Created": 1, "Image": "marketswarm:dev"}
    return {"Id": name, "Names": [f"/{PROJECT}-{svc}-1"], "Labels": labels, "Mounts": mounts, **state}


def _make_log(svc: str) -> bytes:
    """Return a log in which the last line is the one that was read last, as it mostly is."""
    line = b"%s %s\n" % (STARTED.encode(), orjson.dumps({"event": "x.y", "svc": svc, "pad": "x" * 100}))
    return b"\1\0\0\0" + len(line).to_bytes(4, "big") + line


def name_request(path: str) -> str:
    """Return the word by which a request is counted: `list`, `inspect`, `stats` or `logs`."""
    last = path.rpartition("/")[2]
    return last if last in ("stats", "logs") else "list" if path == "/containers/json" else "inspect"


async def serve_engine(path: str, containers: int) -> None:
    """Answer as an engine does, until the process is ended; an order is answered with the requests so far."""
    bodies, counts = make_answers(containers), Counter(list=0, inspect=0, stats=0, logs=0)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            while True:
                target = (await reader.readuntil(b"\r\n\r\n")).split(b" ", 2)[1].decode()
                asked = target.partition("?")[0].removeprefix("/v1.44")
                counts[name_request(asked)] += 1
                head = (
                    b"Api-Version: 1.44\r\nContent-Type: application/json\r\nServer: Docker/27.0 (linux)\r\n"
                )
                body = bodies[asked]
                writer.write(b"HTTP/1.1 200 OK\r\n%bContent-Length: %d\r\n\r\n%b" % (head, len(body), body))
                await writer.drain()
        writer.close()

    async with await asyncio.start_unix_server(serve, path, backlog=64):
        answer("ready")
        while True:
            await asyncio.to_thread(read_order)
            answer(counts)


async def look(path: str, containers: int) -> None:
    """Answer the processor seconds of a look at all containers, and of a measurement of all."""
    engine_module.SEEN_AGAIN_SEC = engine_module.MEASURED_AGAIN_SEC = 0.0  # type: ignore[misc, attr-defined]  # no pause
    engine, services = ContainerEngine(Path(path), PROJECT, None), set(name_services(containers))
    found = []
    for work in (engine.read, engine.measure):
        await work(services)
        began = time.process_time()
        for _ in range(LOOKS):
            await work(services)
        found.append((time.process_time() - began) / LOOKS)
    answer([*found, {kind: count for (kind, _), count in engine.requests.items()}])


class BareEngineClient:
    """Ask an engine by one blocking socket, and parse its answers, which are JSON but for logs."""

    def __init__(self, path: str) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.connect(path)

    def ask(self, path: str) -> Any:
        self._socket.sendall(b"GET /v1.44%b HTTP/1.1\r\nHost: engine\r\n\r\n" % path.encode())
        received, length = bytearray(), None
        while length is None or len(received) < length:
            received += self._socket.recv(1 << 18)
            end = received.find(b"\r\n\r\n")
            if length is None and end >= 0:
                at = received.index(b"Content-Length:") + 15
                length = end + 4 + int(received[at : received.index(b"\r\n", at)])
        body = bytes(received[received.index(b"\r\n\r\n") + 4 :])
        return orjson.loads(body) if body.startswith((b"{", b"[")) else body.split(b"\n")


def ask_bare(path: str, port: int, containers: int) -> None:
    """Send the requests of some rounds, and read what is read of a bus, unless `port` is 0.

    An order is the number of rounds and the requests of all of them by kind, the answer the processor seconds
    of a round.
    """
    engine, services = BareEngineClient(path), name_services(containers)
    names, reader = [f"{number:064x}" for number in range(containers)], hiredis.Reader()
    keys = [key for svc in services for key in (last_beat_key(svc), last_run_key(svc))]
    commands = [
        pack_command("HGETALL", roster_key(HEALER)),
        pack_command("MGET", *keys),
        *(pack_command("PTTL", last_beat_key(svc)) for svc in services),
    ]
    sock = connect(port) if port else None
    answer("ready")
    rounds, asked = read_order()
    began = time.process_time()
    for each in range(rounds):
        for kind, count in asked.items():
            for at in range(count * each // rounds, count * (each + 1) // rounds):
                name = names[at % containers]
                of_one = {"inspect": f"{name}/json", "stats": f"{name}/stats?stream=false&one-shot=true"}
                of_one["logs"] = f"{name}/logs?{LOG_OPTIONS}"
                engine.ask(f"/containers/{of_one.get(kind, 'json')}")
        if sock is not None:
            roster, beats, *_ = send_commands(sock, reader, commands)
            for raw in (*roster[1::2], *filter(None, beats)):
                orjson.loads(raw)
    answer((time.process_time() - began) / rounds)


def measure_bare(path: str, port: int, containers: int, rounds: int, asked: Mapping[str, int]) -> float:
    """Return the milliseconds of a processor that one of so many rounds takes the bare loop."""
    with Worker("bench.medic", "bare", path, port, containers) as bare:
        bare.read()
        return float(1e3 * bare.ask([rounds, asked]))


def measure_cycle(path: str, worker: Worker, containers: int, measure_sec: float) -> Pair:
    """Measure a real medic beside a healer, and the bare loop with as many requests."""
    sections = make_sections(containers, INTERVAL_SEC) | {"medic": {}}
    with start_buses(sections) as buses, redis.Redis(port=buses[0].port) as client:
        variables = {"MEDIC_ENGINE_SOCKET": path, "MEDIC_ENGINE_PROJECT": PROJECT}
        rate, life_sec = containers / INTERVAL_SEC, 3 * INTERVAL_SEC
        with (
            run_program("healer", buses),
            Beats(buses[0].port, containers, rate, life_sec=life_sec),
            run_program("services.medic", buses, **variables) as medic,
        ):
            wait_until(lambda: is_watching(client, containers), "the healer to subscribe", 0.1)
            wait_until(lambda: client.hlen("healer:roster") >= containers, "all to be up", 0.1)
            wait_until(lambda: worker.ask("")["stats"] >= 2 * containers, "two measurements", 0.5)
            before, usage = worker.ask(""), Usage(medic.pid)
            time.sleep(measure_sec)
            after, used_sec = worker.ask(""), usage.cpu_sec()
            asked = {kind: count - before[kind] for kind, count in after.items()}
            rounds = asked["list"]
            return Pair(1e3 * used_sec / rounds, measure_bare(path, buses[0].port, containers, rounds, asked))


def measure(scale: float) -> Sample:
    """Measure a whole cycle, and within it the engine's part: a look, and the memory of all containers."""
    containers = max(10, round(SERVICES * scale))
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "engine.sock")
        with Worker("bench.medic", "engine", path, containers) as worker:
            worker.read()
            cycle = measure_cycle(path, worker, containers, max(10.0, MEASURE_SEC * scale))
            with Worker("bench.medic", "look", path, containers) as looking:
                look_sec, memory_sec, asked = looking.read()
            bare_look, bare_memory = (
                measure_bare(path, 0, containers, LOOKS + 1, {kind: asked[kind] for kind in kinds})
                for kinds in (("list", "inspect"), ("stats",))
            )
    return {
        "cycle": cycle,
        "look": Pair(1e3 * look_sec, bare_look),
        "memory": Pair(1e3 * memory_sec, bare_memory),
    }


PROGRAMS: Final[dict[str, Callable[..., None]]] = {
    "engine": lambda path, containers: asyncio.run(serve_engine(path, int(containers))),
    "look": lambda path, containers: asyncio.run(look(path, int(containers))),
    "bare": lambda path, port, containers: ask_bare(path, int(port), int(containers)),
}


if __name__ == "__main__":
    PROGRAMS[sys.argv[1]](*sys.argv[2:])
