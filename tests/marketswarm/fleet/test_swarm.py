"""What the children of `marketswarm up` are told of the world; the children are real."""

import asyncio

import orjson
import pytest

from marketswarm.fleet.plan import draw
from marketswarm.fleet.swarm import Orders, Swarm
from marketswarm.truth import load

TRUTH = load(b'{"services":{"a":{"heartbeat":{}}}}').truth
SAYS_ITS_ENVIRONMENT = "import json, os; print(json.dumps(dict(os.environ)))"


@pytest.mark.live
async def test_what_is_for_one_process_is_not_handed_on_to_all(tmp_path, monkeypatch):
    """They would write over each other's sign of life, and each would say for all that it is ready."""
    (tmp_path / "says.py").write_text(SAYS_ITS_ENVIRONMENT, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    for name in ("MARKETSWARM_ALIVE_FILE", "NOTIFY_SOCKET", "LOG_LEVEL"):
        monkeypatch.setenv(name, "/theirs")
    said: list[bytes] = []
    plan = draw(TRUTH, known={}, modules={"a": "says"}, port=7000)
    orders = Orders(plan=plan, truth=TRUTH, truth_path=tmp_path, data=tmp_path, binary=tmp_path)
    hurry = asyncio.Event()
    swarm = Swarm(orders, lambda *_, **__: None, lambda _, line: said.append(line), hurry)
    assert await swarm.agents["a"].once(hurry) == 0
    environ = orjson.loads(said[0])
    assert environ["SYSTEM_REDIS_URL"] == "redis://127.0.0.1:7000"
    assert environ["LOG_LEVEL"] == "/theirs"
    assert not environ["MARKETSWARM_ALIVE_FILE"]
    assert not environ["NOTIFY_SOCKET"]
