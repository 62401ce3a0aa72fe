"""What a fleet answers by its control socket, also if it answers nonsense."""

import contextlib
import socket
import threading
from dataclasses import replace

import orjson
import pytest

from marketswarm.fleet_control import (
    FleetProcess,
    NoFleetError,
    ProcessState,
    RestartAnswer,
    read_processes,
    request_restart,
    send_request,
)

pytestmark = pytest.mark.live  # a socket of this process

PROCESS = FleetProcess("feed/2", ProcessState.WAITING, True, "17.5", 3.25, 2)


@contextlib.contextmanager
def answering(folder, answer):
    """A control socket that gives one answer; yields its path and what was asked."""
    asked = []
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(folder / "s"))
        listener.listen()

        def serve():
            connection, _ = listener.accept()
            with connection, connection.makefile("rb") as lines:
                asked.append(orjson.loads(lines.readline()))
                connection.sendall(answer + b"\n")

        thread = threading.Thread(target=serve)
        thread.start()
        yield str(folder / "s"), asked
        thread.join()


def test_processes_are_read_and_one_that_is_none_is_left_out(tmp_path):
    right = PROCESS.to_json()
    wrong = [{**right, name: value} for name, value in (
        ("state", "flying"), ("age_sec", -1), ("identity", ""), ("wanted", 1), ("restarts", True),
        ("name", "x" * 500),
    )]  # fmt: skip
    restarting, unclear = ({**right, "restarting": value} for value in (True, "yes"))
    answer = orjson.dumps({"processes": [right, *wrong, 7, None, restarting, unclear]})
    with answering(tmp_path, answer) as (address, asked):
        assert read_processes(address) == (PROCESS, replace(PROCESS, is_restarting=True), PROCESS)
    assert asked == [{"do": "state", "svc": ""}]
    assert PROCESS.svc == "feed"


@pytest.mark.parametrize(
    ("answer", "result"),
    [
        (b'{"done":true,"result":"done","said":"x"}', RestartAnswer.DONE),
        (b'{"done":false,"result":"changed","said":"x"}', RestartAnswer.CHANGED),
        (b'{"done":false,"said":"what can be done is stop, start, kill"}', RestartAnswer.REFUSED),
        (b'{"done":true,"result":["done"],"said":"x"}', RestartAnswer.REFUSED),
    ],
)
def test_what_became_of_a_restart_is_one_of_three_answers(tmp_path, answer, result):
    with answering(tmp_path, answer) as (address, asked):
        assert request_restart(address, "feed", "17.5")[0] is result
    assert asked == [{"do": "restart", "svc": "feed", "identity": "17.5"}]


def test_a_restart_may_have_an_end(tmp_path):
    with answering(tmp_path, b'{"done":true,"result":"done"}') as (address, asked):
        request_restart(address, "feed", "17.5", 99.5)
    assert asked == [{"do": "restart", "svc": "feed", "identity": "17.5", "until": 99.5}]


@pytest.mark.parametrize("answer", [b"no json", b"[1]", b""])
def test_an_answer_that_is_none_is_no_fleet(tmp_path, answer):
    with answering(tmp_path, answer) as (address, _), pytest.raises(NoFleetError):
        send_request(address, "stop", "feed")


def test_no_socket_is_no_fleet(tmp_path):
    with pytest.raises(NoFleetError):
        read_processes(str(tmp_path / "none"))
