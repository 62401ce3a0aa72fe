"""Free ports for servers of tests."""

import socket

import pytest

from marketswarm.testing.ports import WorkerPorts

pytestmark = pytest.mark.live


def test_no_two_workers_get_the_same_ports_and_none_gets_one_twice_in_a_row():
    workers = [WorkerPorts(worker, 3) for worker in range(3)]
    given = [{ports.find_free(10) + step for _ in range(30) for step in range(10)} for ports in workers]
    assert [len(ports) for ports in given] == [300] * 3
    assert len(set.union(*given)) == 900


def test_a_row_with_a_port_that_is_taken_is_left_out():
    ports = WorkerPorts(0, 40)
    with socket.socket() as taken:
        first = ports.find_free(3)
        taken.bind(("127.0.0.1", first + 2))
        taken.listen()
        assert first not in {ports.find_free(3) for _ in ports.rows}
    assert first in {ports.find_free(3) for _ in ports.rows}
