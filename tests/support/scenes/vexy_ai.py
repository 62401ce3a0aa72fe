"""What tests of vexy_ai share: a truth for it, items on a stream, notes and digests read back."""

from typing import Any

import orjson

from support.rig import Proc, Server
from support.scenes.agent import Scene
from support.waiting import PATIENT_SEC, until

GROUP = "readers"

ODD = """
import os, signal, time
from marketswarm.agent import run
from services.vexy_ai import records
from services.vexy_ai.loop import main

sane = records.make_note

def odd(entry, item, lexicon, wall):
    match item[b"id"]:
        case b"bad":
            raise ValueError("can't be done")
        case b"killer":
            os.kill(os.getpid(), signal.SIGKILL)
        case b"hangs":
            time.sleep(60)
        case b"slow":
            time.sleep(0.1)
        case b"ill" if not os.path.exists("well"):
            raise RuntimeError("not today")
    return sane(entry, item, lexicon, wall)

records.make_note = odd
if __name__ == "__main__":
    run(main)
"""


def truth(subscribe: list[str] | None = None, publish: list[dict[str, str]] | None = None, **settings: Any):
    """A truth with nothing but vexy_ai; `subscribe` names keys on market-redis."""
    points: dict[str, Any] = {}
    if subscribe:
        points["subscribe_to"] = [{"bus": "market-redis", "key": key} for key in subscribe]
    if publish:
        points["publish_to"] = publish
    return {
        "services": {
            "vexy_ai": {
                "heartbeat": {"interval_sec": 0.2, "timeout_sec": 3},
                "access_points": points,
                "settings": {"group": GROUP, "claim_sec": 0.5, **settings},
            }
        }
    }


def entries(server: Server, key: str = "vexy:notes") -> list[dict[str, str]]:
    """The fields of every entry of a stream, oldest first."""
    found = [fields for _id, fields in server.cmd("XRANGE", key, "-", "+", within=10)]
    return [one if isinstance(one, dict) else dict(zip(one[::2], one[1::2], strict=True)) for one in found]


def notes(scene: Scene, key: str = "vexy:notes") -> list[str]:
    """The ids of the items that have a note."""
    return [each["id"] for each in entries(scene.market, key) if each["kind"] == "note"]


def digests(scene: Scene, key: str = "vexy:notes") -> list[dict[str, Any]]:
    """The digests, what is JSON in them decoded."""
    found = [each for each in entries(scene.market, key) if each["kind"] == "digest"]
    lists = ("stories", "tickers", "topics", "moves", "unreachable", "items", "read", "count")
    return [{**each, **{name: orjson.loads(each[name]) for name in lists}} for each in found]


def add(scene: Scene, *ids: str, key: str = "rss:items", **fields: str) -> None:
    """Puts items on a stream."""
    for one in ids:
        said = {"id": one, "title": f"about ${one.upper()}", **fields}
        scene.market.cmd("XADD", key, "*", *(word for pair in said.items() for word in pair))


def pending(scene: Scene, key: str = "rss:items") -> int:
    summary = scene.market.cmd("XPENDING", key, GROUP)
    return int(summary["pending"] if isinstance(summary, dict) else summary[0])


def unread(scene: Scene, key: str = "rss:items") -> int:
    """How many entries of a stream no worker has been given yet."""
    found = [each for each in scene.market.cmd("XINFO", "GROUPS", key) if each["name"] == GROUP]
    return sum(int(each["lag"] or 0) for each in found)


def settled(scene: Scene, within: float = PATIENT_SEC, key: str = "rss:items") -> None:
    """Waits until nobody holds anything of a stream."""
    until(lambda: not pending(scene, key), within, f"nothing pending in {key}")


def odd_worker(scene: Scene, **env: str) -> Proc:
    """A worker for whom the items bad, killer, hangs, slow, and ill until there is a file `well`, are so."""
    return scene.program("odd_worker", ODD, **env)
