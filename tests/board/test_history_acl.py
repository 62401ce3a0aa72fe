"""The board records as its own user, and the operator reads what it recorded; nobody else may."""

import time

import orjson
import pytest

from marketswarm.access.passwords import format_acl_files, load_passwords, replace_url_user
from marketswarm.access.users import user_names
from marketswarm.bus import Bus, BusError
from marketswarm.bus.scripts import load_all_scripts
from marketswarm.event import Event, Kind, encode_event
from marketswarm.history.store import read_history
from marketswarm.seeding.functions import load_functions
from marketswarm.settings.programs import MonitorSettings
from marketswarm.truth import parse_truth
from services.board.fleet.recorder import HistoryRecorder
from support.rig import Server

pytestmark = pytest.mark.live

TRUTH = parse_truth(orjson.dumps({"services": {"healer": {}, "board": {}, "shop": {}}})).truth


@pytest.fixture
def enter(tmp_path):
    """Opens a bus as a user: `enter("board")`."""
    known, _ = load_passwords(tmp_path / "secrets", user_names(TRUTH), make_missing=True)
    (tmp_path / "users.acl").write_text(
        format_acl_files(TRUTH, known, MonitorSettings(), ())["system-redis"], encoding="utf-8"
    )
    with Server(tmp_path, aclfile="users.acl") as server:
        yield lambda user: Bus("system-redis", replace_url_user(server.url, user, known[user]))


async def test_the_board_records_and_the_operator_reads(enter):
    bootstrap, healer, board = enter("bootstrap"), enter("healer"), enter("board")
    await load_functions(bootstrap, load_all_scripts())
    now = time.time()
    miss = Event(Kind.HEARTBEAT_MISS, "shop", now, "x", "healer", since=now - 5)
    await healer.ask(healer.client.xadd("healer:alerts:log", {"event": encode_event(miss)}))
    recorder = HistoryRecorder(board)
    recorder.follow(TRUTH)
    for _ in range(3):
        await recorder.step(block_sec=None)
    operator = enter("operator")
    stored = await read_history(operator, int(now))
    assert set(stored.history.services) == {"healer", "board", "shop"}
    with pytest.raises(BusError):
        await operator.ask(operator.client.delete("board:history"))
    shop = enter("shop")
    with pytest.raises(BusError):
        await shop.ask(shop.client.hgetall("board:history"))
    for bus in (bootstrap, healer, board, operator, shop):
        await bus.aclose()
