"""A folder to type commands in, with two real servers or without."""

import pytest

from support.rig import Server
from support.rig.shell import Shell


@pytest.fixture
def shell(tmp_path):
    return Shell(tmp_path)


@pytest.fixture
def buses(tmp_path, shell):
    with Server(tmp_path / "system") as system, Server(tmp_path / "market") as market:
        shell.env |= {"SYSTEM_REDIS_URL": system.url, "MARKET_REDIS_URL": market.url}
        yield system, market


@pytest.fixture
def seeded(shell, buses):
    assert shell("seed").returncode == 0
    return buses
