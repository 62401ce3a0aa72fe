"""The messages that every channel's golden files show, and those that a stranger would like to be sent.

`agrees` holds what a channel makes of them to its golden file. `MARKETSWARM_GOLDEN=write` writes the files
anew: then read what git says has changed.
"""

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import orjson

from marketswarm.channels.message import Message, MessageKind, MessageLink, Severity
from marketswarm.event import Event, Kind, encode_event, make_event_id

AT = 1762433458.3
GOLDEN = Path(__file__).parents[1] / "marketswarm" / "channels" / "golden"


def event_of(kind: Kind, svc: str, ts: float, **more: float | str) -> Event:
    return Event(kind, svc, ts, make_event_id(kind, svc, ts), "healer", **more)  # type: ignore[arg-type]


_MISS = event_of(
    Kind.HEARTBEAT_MISS, "rss_agg", AT, late_sec=31.2, timeout_sec=30.0, reason="silent", host="web-3"
)
_OK = event_of(Kind.HEARTBEAT_OK, "rss_agg", AT + 242.7, age_sec=0.004, down_sec=273.9, host="web-3")

MISS = Message(
    _MISS.id,
    "rss_agg is down",
    "no beat for 31.2 s (timeout 30 s)\nsince 2025-11-06 12:50:27 UTC on web-3, fleet prod\n"
    "next: marketswarm health rss_agg",
    Severity.WARNING,
    AT,
    events=(encode_event(_MISS),),
    kind=MessageKind.DOWN,
    thread=_MISS.id,
    opens=True,
)
OK = Message(
    _OK.id,
    "rss_agg is up again",
    "after 4 min 34 s\nat 2025-11-06 12:55:01 UTC on web-3, fleet prod",
    Severity.INFO,
    _OK.ts,
    events=(encode_event(_OK),),
    kind=MessageKind.UP,
    thread=MISS.id,
    closes=(MISS.id,),
)
REMINDER = Message(
    "reminder.1.rss_agg.1762433458300",
    "rss_agg is still down",
    "for 15 min 31 s; nobody has acknowledged it",
    Severity.CRITICAL,
    AT + 900,
    events=(encode_event(_MISS),),
    kind=MessageKind.REMINDER,
    thread=MISS.id,
    opens=True,
)
FLAPPING = Message(
    "flapping.rss_agg.1762433458300",
    "rss_agg is flapping",
    "11 changes within 2 min 5 s (told 6 min 5 s late)",
    Severity.WARNING,
    AT,
    late=True,
    events=(encode_event(_MISS), encode_event(_OK)),
    kind=MessageKind.FLAPPING,
    thread="flapping.rss_agg.1762433458300",
    opens=True,
)


def group_of(names: Sequence[str]) -> Message:
    """Return one message about as many services as there are names."""
    events = [
        event_of(Kind.HEARTBEAT_MISS, svc, AT + i / 1000, late_sec=30.5, timeout_sec=30.0, reason="silent")
        for i, svc in enumerate(names)
    ]
    return Message(
        f"group.{events[0].id}",
        f"{len(names)} services are down",
        "within 0.2 s of one another",
        Severity.CRITICAL,
        AT,
        events=tuple(map(encode_event, events)),
        kind=MessageKind.GROUP,
        lines=tuple(f"{svc} is down: no beat for 30.5 s (timeout 30 s)" for svc in names),
        thread=f"group.{events[0].id}",
        opens=True,
    )


GROUP = group_of([f"worker_{i:03d}" for i in range(8)])

LINKED = replace(
    MISS,
    links=(
        MessageLink("I see to it", f"https://up.example/link/{'ack2' * 40}.{'s' * 32}", "ack"),
        MessageLink("Quiet for 2 h", f"https://up.example/link/{'q2' * 80}.{'s' * 32}", "quiet"),
        MessageLink("Open rss_agg", "https://up.example/services/rss_agg"),
    ),
)

CASES = {"miss": MISS, "ok": OK, "group": GROUP, "reminder": REMINDER, "flapping": FLAPPING, "links": LINKED}

HOSTILE = (
    "<!channel>",
    "<!here|x>",
    "<@U012AB3CD>",
    "<https://evil.example|bank>",
    "@everyone",
    "@here",
    "<@&123>",
    "<at>all</at>",
    "*x* _y_ ~z~ `q` ||s||",
    "**b** __u__ ~~s~~ ```c```",
    "[a](https://evil.example)",
    "![a](https://evil.example/p.png)",
    "<b>x</b> & <script>alert(1)</script>",
    "&lt;!channel&gt;",
    ":rotating_light:",
    "> quoted\n# head\n- item\n1. one",
    "{{DATE(2017-02-14T06:08:39Z, SHORT)}}",
    "\\*x\\*",
    "/start@bot",
    "a@b",
    "#tag $USD",
    "\x00\x1b[31mred\x07\u202egnp\ud800",
    "\U0001f4a9" * 20,
)
"""What a service or a reason could be called by someone who means no good."""


def hostile(name: str) -> Message:
    """A message with that name wherever a stranger's words can stand."""
    return Message(
        f"x.{name}",
        f"{name} is down",
        f"{name} (timeout 30 s)",
        Severity.WARNING,
        AT,
        events=(orjson.dumps({"type": "heartbeat_miss", "svc": name.encode("utf-8", "replace").decode()}),),
        kind=MessageKind.GROUP,
        lines=(f"{name} is down", f"also {name}"),
        thread=f"x.{name}",
        opens=True,
    )


def agrees(kind: str, case: str, found: bytes | str, ending: str = "json") -> None:
    """Holds `found` to `golden/<kind>/<case>.<ending>`; JSON is compared and written indented."""
    path = GOLDEN / kind / f"{case}.{ending}"
    if ending == "json":
        found = orjson.dumps(orjson.loads(found), option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
    shown = found.encode() if isinstance(found, str) else found
    if os.environ.get("MARKETSWARM_GOLDEN") == "write":
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(shown)
    assert shown.decode() == path.read_bytes().decode()
