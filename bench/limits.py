"""Bare programs, which do the same work as ours and nothing else: the limits that our figures are held to.

    python -m bench.limits subscriber PORT CHANNELS

Each one runs in a process of its own, as a `Worker`.
"""

import asyncio
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import hiredis
import orjson

from bench.beats import name_services
from bench.programs import answer, read_order
from bench.server import connect, pack_command, send_commands

WITHOUT_END: Final = 1 << 60
DEATHS_AT_ONCE: Final = 250
DEATH_ROUNDS: Final = 5
"""Rounds of the bare pipeline: one alone differs by a factor of two."""


def subscribe(port: int, channels: int) -> None:
    """Hear the beats of so many services with a blocking socket, hiredis, orjson and a dictionary.

    It checks nothing, so Python can't be faster. An order is a number of beats; the answer is the wall and
    processor seconds for them.
    """
    sock, reader, last = connect(port), hiredis.Reader(), dict[str, float]()
    services = name_services(channels)
    for start in range(0, channels, 1000):
        some = [f"{svc}:heartbeat" for svc in services[start : start + 1000]]
        sock.sendall(pack_command("SUBSCRIBE", *some))
        acks = 0
        while acks < len(some):
            reader.feed(sock.recv(1 << 16))
            while (reply := reader.gets()) is not False:
                acks += reply[0] == b"subscribe"  # services may beat already
    answer("ready")
    while True:
        beats, heard = read_order(), 0
        wall, cpu = time.perf_counter(), time.process_time()
        while heard < beats:
            reader.feed(sock.recv(1 << 16))
            now = time.monotonic()
            while (reply := reader.gets()) is not False:
                last[orjson.loads(reply[2])["svc"]] = now
                heard += 1
        answer([time.perf_counter() - wall, time.process_time() - cpu])


async def wake_up() -> None:
    """Answer how many seconds late an empty event loop runs callbacks. An order is their monotonic times."""
    loop = asyncio.get_running_loop()
    answer("ready")
    while True:
        deadlines = await asyncio.to_thread(read_order)
        late: list[float] = []
        is_over = asyncio.Event()

        def note(due: float, late: list[float] = late, is_over: asyncio.Event = is_over) -> None:
            late.append(time.monotonic() - due)
            if len(late) == len(deadlines):  # noqa: B023 - it is over before the next order
                is_over.set()

        for due in deadlines:
            loop.call_at(due, note, due)
        await is_over.wait()
        answer(late)


def serve_http(port: int) -> None:
    """Serve an ASGI application that answers OK, with the parser and the loop of the board."""
    import uvicorn  # noqa: PLC0415 - the other limits are measured without it

    async def app(_scope: Any, _receive: Any, send: Callable[[dict[str, Any]], Any]) -> None:
        headers = [(b"content-type", b"text/plain"), (b"content-length", b"2")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"OK"})

    uvicorn.run(
        app, port=port, http="httptools", loop="asyncio", log_level="error", access_log=False, lifespan="off"
    )


async def beat(port: int, svc: str, interval_sec: float) -> None:
    """Send what an agent sends, with the client that it uses, and do nothing else."""
    import redis.asyncio  # noqa: PLC0415 - the other limits are measured without it

    client, i = redis.asyncio.Redis(port=port), 0
    while True:
        i += 1
        payload = orjson.dumps({"svc": svc, "i": i, "ts": round(time.time(), 3)})
        pipe = client.pipeline(transaction=False)
        pipe.publish(f"{svc}:heartbeat", payload)
        pipe.set(f"beat:{svc}", payload, ex=60)
        await pipe.execute()
        if i == 1:
            answer("ready")
        await asyncio.sleep(interval_sec)


def deliver(port: int, stream: str, receiver_port: int) -> None:
    """Send each entry of a stream to an HTTP server, one by one, after the order WITHOUT_END.

    Another order is a number of entries to read and acknowledge only; the answer is the processor seconds.
    """
    sock, reader = connect(port), hiredis.Reader()
    import http.client  # noqa: PLC0415 - see `serve_http`

    receiver = http.client.HTTPConnection("127.0.0.1", receiver_port)
    send_commands(sock, reader, [pack_command("XGROUP", "CREATE", stream, "bare", "$", "MKSTREAM")])
    answer("ready")
    while (entries := read_order()) != WITHOUT_END:
        cpu = time.process_time()
        while entries > 0:
            entries -= len(_read_group(sock, reader, stream, 100))
        answer(time.process_time() - cpu)
    while True:
        for event in _read_group(sock, reader, stream, 1):
            receiver.request("POST", "/", orjson.dumps({"data": {"events": [event]}}))
            receiver.getresponse().read()


def _read_group(sock: Any, reader: hiredis.Reader, stream: str, count: int) -> list[Any]:
    words = (
        "XREADGROUP",
        "GROUP",
        "bare",
        "bench",
        "COUNT",
        str(count),
        "BLOCK",
        "0",
        "STREAMS",
        stream,
        ">",
    )
    ((_, entries),) = send_commands(sock, reader, [pack_command(*words)])[0]
    send_commands(sock, reader, [pack_command("XACK", stream, "bare", *(ident for ident, _ in entries))])
    return [orjson.loads(fields[1]) for _, fields in entries]


async def stream_bars(url: str, port: int, stream: str) -> None:
    """Copy the bars of a WebSocket to a stream.

    The order is the number of bars; the answer is the processor seconds.
    """
    from websockets.asyncio.client import connect as connect_socket  # noqa: PLC0415 - see `serve_http`

    sock, reader = connect(port), hiredis.Reader()
    async with connect_socket(url, compression=None) as socket:
        for _ in range(2):  # the login and the subscription
            await socket.recv()
            await socket.send("{}")
        answer("ready")
        bars, cpu = await asyncio.to_thread(read_order), time.process_time()
        while bars > 0:
            events = orjson.loads(await socket.recv())
            packed = [pack_command("XADD", stream, "*", "bar", orjson.dumps(event)) for event in events]
            send_commands(sock, reader, packed)
            bars -= len(events)
        answer(time.process_time() - cpu)


async def ask_http(urls: Sequence[str], headers: Mapping[str, str] | None = None) -> float:
    """Send a request for each URL, 16 at once, with the client that our readers use.

    Return the processor seconds.
    """
    import httpx  # noqa: PLC0415 - see `serve_http`

    at_once = asyncio.Semaphore(16)
    async with httpx.AsyncClient(headers=headers) as client:
        cpu = time.process_time()  # a client reads certificates when it is made

        async def ask(url: str) -> None:
            async with at_once:
                response = await client.get(url)
                assert not response.is_error

        await asyncio.gather(*map(ask, urls))
    return time.process_time() - cpu


def write_deaths(port: int, deaths: Sequence[tuple[str, bytes, bytes]]) -> float:
    """Read and write what a death does: last beat and its life, roster, health key, log and channel.

    Of each death, `deaths` has the service, its entry in the roster and its event, as the healer wrote them;
    the keys are others, as long as the healer's. Return the processor seconds, with the replies parsed: the
    median of several rounds, after one that fills the caches.
    """
    reader, rounds = hiredis.Reader(), list[float]()
    with connect(port) as sock:
        for _ in range(1 + DEATH_ROUNDS):
            cpu = time.process_time()
            for start in range(0, len(deaths), DEATHS_AT_ONCE):
                batch, packed = deaths[start : start + DEATHS_AT_ONCE], list[bytes]()
                for svc, _, _ in batch:
                    packed += [pack_command("GET", f"beat:{svc}"), pack_command("PTTL", f"beat:{svc}")]
                send_commands(sock, reader, packed)
                packed = []
                for svc, entry, event in batch:
                    packed += [
                        pack_command(
                            "XADD", "bare_r:alerts:log", "MAXLEN", "~", "100000", "*", "event", event
                        ),
                        pack_command("HSET", "bare_r:roster", svc, entry),
                        pack_command("SET", f"bare_h:{svc}", event, "EX", "600"),
                        pack_command("PUBLISH", "bare_r:alerts", event),
                    ]
                send_commands(sock, reader, packed)
            rounds.append(time.process_time() - cpu)
    return statistics.median(rounds[1:])


PROGRAMS: Final[dict[str, Callable[..., None]]] = {
    "subscriber": lambda port, channels: subscribe(int(port), int(channels)),
    "loop": lambda: asyncio.run(wake_up()),
    "http": lambda port: serve_http(int(port)),
    "agent": lambda port, svc, interval_sec: asyncio.run(beat(int(port), svc, float(interval_sec))),
    "deliverer": lambda port, stream, receiver: deliver(int(port), stream, int(receiver)),
    "bars": lambda url, port, stream: asyncio.run(stream_bars(url, int(port), stream)),
}


if __name__ == "__main__":
    PROGRAMS[sys.argv[1]](*sys.argv[2:])
