"""One fleet in containers, and one market station, for every test in this folder that asks for it.

Each test leaves them as it found them, but for the last one of each. The fleet is begun by the runbook of the
operator's document, and sends its messages to a receiver of this process. Both go when the folder's last
test is done.
"""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from xdist.remote import Producer

from support.by_fixture import ByFixture
from support.pages import shown
from support.rig.compose import HASTY_SEC, ROOT, RUNBOOKS, Project, find_gateway, why_no_engine
from support.rig.receiver import Receiver

BEGUN: list[Project] = []
SHARED = {
    "fleet": ("crashes", "hardened", "ping_lines", "runbooks"),
    "others": ("engine", "front", "market", "publish", "reload"),
}
"""Which files one worker runs. A test waits for containers most of its time, so two of them share a core."""


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> ByFixture:
    return ByFixture(config, log, SHARED)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            # an image is built first, and whatever the engine does takes seconds
            item.add_marker(pytest.mark.timeout(900))


@pytest.hookimpl(trylast=True)  # after the test's own fixtures
def pytest_runtest_teardown(nextitem: pytest.Item | None) -> None:
    """The fleet does not wait for the end of the session."""
    if nextitem is None or not nextitem.path.is_relative_to(Path(__file__).parent):
        while BEGUN:
            BEGUN.pop().close()


@pytest.fixture(scope="session")
def engine() -> None:
    """Something that runs containers; without it these tests are skipped, and say so."""
    if why := why_no_engine():
        pytest.skip(f"needs a container engine: {why}")


@pytest.fixture(scope="session")
def receiver(engine: None) -> Iterator[Receiver]:
    """What the fleet's WEBHOOK_URL leads to."""
    with Receiver(host=find_gateway()) as receiver:
        yield receiver


@pytest.fixture(scope="session")
def fleet(receiver: Receiver, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    with Project(tmp_path_factory.mktemp("fleet")) as project:
        BEGUN.append(project)
        # each test may stop what one before it stopped, and each outage is to be sent
        project.env |= {"WEBHOOK_URL": receiver.url, "RATE_LIMIT_SEC": "0"}
        project.script(shown(RUNBOOKS, "Fresh init"), within=240)
        project.healthy()
        assert not any(one.restarts for one in project.containers().values())
        project.wait_until_heard()
        yield project


@pytest.fixture(scope="session")
def station(engine: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """The market station, brought up by one command."""
    with Project(tmp_path_factory.mktemp("station")) as project:
        BEGUN.append(project)
        project.truth.write_bytes((ROOT / "examples/market.json").read_bytes())
        project.env["COMPOSE_FILE"] = "compose.yaml:compose.market.yaml"
        assert "All containers are well" in project.make("up", within=280)
        yield project


@pytest.fixture(scope="module")
def hasty(fleet: Project) -> Iterator[Project]:
    """The fleet with all beating each second and missed after four, until the module ends."""
    shipped = fleet.truth.read_text(encoding="utf-8")
    truth = json.loads(shipped)
    for section in truth["services"].values():
        section["heartbeat"]["interval_sec"] = 1
    truth["services"]["healer"]["threshold"] = {"heartbeat_cadence": HASTY_SEC, "bus_timeout_sec": 3}
    fleet.seed(json.dumps(truth))
    try:
        yield fleet
    finally:
        fleet.healthy()
        fleet.truth.write_text(shipped, encoding="utf-8")
        fleet.make("seed")
