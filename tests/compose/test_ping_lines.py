"""The lines for Docker that the board shows to be pasted, with what they name: images, and a curl in them.

A registry has neither: the images are built here, for a service of the name that the lines have.
"""

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from marketswarm.operator.ping_lines import make_ping_lines
from marketswarm.truth.document_edit import AddedKind
from support.rig.compose import Project, patiently

SVC = "mesh"
"""A service that beats by itself: none is missed for these pings."""
WITH_CURL = """
FROM debian:bookworm-slim
RUN apt-get update && apt-get install -y --no-install-recommends curl
"""
Line = Callable[[AddedKind, str, str], str]
pytestmark = pytest.mark.needs("curl")


@pytest.fixture
def make_line(fleet: Project) -> Line:
    """Return a function that returns the line for a kind, a service and the host and port of the board."""
    uuid = fleet.compose("run", "--rm", "operator", "token", "create", "lines", "--ping", SVC).split()[0]

    def make(kind: AddedKind, svc: str, board: str) -> str:
        return make_ping_lines(kind, svc, f"http://{board}/ping/{uuid}")["Docker"]

    return make


@pytest.fixture
def job_image(fleet: Project) -> Iterator[str]:
    """The name of a service whose image, which has the same name, ends with the code of its variable."""
    name = f"{fleet.name}-nightly"
    fleet.run(
        "docker",
        "build",
        "--tag",
        name,
        "-",
        feed='FROM debian:bookworm-slim\nENV CODE=0\nCMD exit "$CODE"\n',
    )
    yield name
    fleet.run("docker", "image", "rm", "--force", name)


def list_pings(fleet: Project) -> list[str]:
    entries = fleet.ask("XRANGE", f"pings:{SVC}", "-", "+", user="operator")
    return [str(fields["kind"]) for _, fields in entries]


def test_the_line_of_a_job_reports_how_its_container_ended(fleet, make_line, job_image):
    line = make_line(AddedKind.JOB, job_image, f"127.0.0.1:{fleet.board_port}")
    before = len(list_pings(fleet))
    assert fleet.script(line) == "OK"
    failing = line.replace("docker run --rm", "docker run --rm -e CODE=3")
    assert failing != line
    assert fleet.run("sh", "-c", failing).stdout == "OK"
    assert list_pings(fleet)[before:] == ["success", "fail"]


def test_the_line_of_a_daemon_beats_while_its_container_runs_and_a_board_that_is_away_makes_it_not_unhealthy(
    fleet, make_line
):
    [board] = [each["IPAddress"] for each in fleet["board"].said["NetworkSettings"]["Networks"].values()]
    image = f"{fleet.name}-sleeper"
    line = make_line(AddedKind.DAEMON, "sleeper", f"{board}:8080")
    fleet.run("docker", "build", "--tag", image, "-", feed=f"{WITH_CURL}{line}\nCMD sleep 600\n", within=240)
    before = len(list_pings(fleet))
    # the interval of the line is a minute
    quick = ("--health-interval", "1s", "--network", fleet.network)
    name = fleet.run("docker", "run", "--detach", "--init", *quick, image).stdout.strip()
    try:
        patiently(lambda: len(list_pings(fleet)) >= before + 2, 30, "pings")
        assert set(list_pings(fleet)[before:]) == {"success"}

        def look() -> dict[str, Any]:
            state = fleet.run("docker", "inspect", "--format", "{{json .State.Health}}", name).stdout
            return dict(json.loads(state))

        fleet.compose("stop", "board")
        # the engine keeps the last five
        patiently(lambda: all("curl: (" in one["Output"] for one in look()["Log"]), 120, "only failures")
        assert look()["Status"] == "healthy"
    finally:
        fleet.run("docker", "rm", "--force", name)
        fleet.run("docker", "image", "rm", "--force", image)
        fleet.compose("start", "board")
        fleet.healthy()
