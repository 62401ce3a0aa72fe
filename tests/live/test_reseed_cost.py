"""What a reseed of a large truth costs: each agent reads the document once."""

import pytest

from support.rig import Server
from support.scenes.agent import Scene, seed
from support.waiting import until

AGENTS = 4


def truth(note: str) -> dict[str, object]:
    many = {f"s{n}": {"heartbeat": {"interval_sec": 5}, "settings": {"note": note * 50}} for n in range(2000)}
    return {"services": {"probe": {"heartbeat": {"interval_sec": 0.2, "timeout_sec": 5}}, **many}}


def sent(servers: list[Server]) -> int:
    """Bytes of all documents that were handed out, by what servers count of all replies."""
    return sum(int(server.cmd("INFO", "stats")["total_net_output_bytes"]) for server in servers)


@pytest.mark.live
def test_each_agent_reads_a_new_truth_once(tmp_path):
    with Scene(tmp_path) as scene:
        seed(scene.buses, truth("a"), 1)
        agents = [scene.agent() for _ in range(AGENTS)]
        for agent in agents:
            agent.wait_log("agent.joined")
        size = scene.system.cmd("STRLEN", "truth:doc")
        assert size > 100_000
        before = sent(scene.buses)
        seed(scene.buses, truth("b"), 2)
        until(lambda: all(agent.logs("truth.applied") for agent in agents), what="all to go by it")
        assert sent(scene.buses) - before < 1.5 * AGENTS * size
