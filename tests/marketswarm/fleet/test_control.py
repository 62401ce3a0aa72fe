"""The fleet's end of the control socket: which requests to restart it follows."""

import orjson
import pytest

from marketswarm.agent.lease import clock
from marketswarm.fleet.control import ControlledAgents, answer_request
from marketswarm.fleet_control import RestartAnswer


class Child:
    def __init__(self):
        self.restarted = []

    async def restart(self, identity):
        self.restarted.append(identity)
        return RestartAnswer.DONE, "restarted"


@pytest.mark.parametrize(
    ("limit", "is_done"),
    [
        ({}, True),
        ({"until": clock() + 1000}, True),
        ({"until": clock() - 0.1}, False),
        ({"until": -1}, False),
        ({"until": "soon"}, False),
        ({"until": True}, False),
        ({"until": [1]}, False),
    ],
)
async def test_a_restart_that_comes_after_its_end_is_refused(limit, is_done):
    child = Child()
    request = {"do": "restart", "svc": "feed", "identity": "17.5", **limit}
    answer = await answer_request(orjson.dumps(request), ControlledAgents({"feed": child}, None))
    assert answer["done"] is is_done
    assert child.restarted == ["17.5"] * is_done
