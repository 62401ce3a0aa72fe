"""What compose.yaml comes to where nothing is set."""

import json

import pytest

from support.rig.compose import AGENTS, BUSES, Project

ALL = ("standby", "dev", "tools", "observability")


@pytest.fixture(scope="module")
def shipped(engine, tmp_path_factory):
    """The file as compose reads it, with every profile."""
    project = Project(tmp_path_factory.mktemp("file"))
    for name in project.own:
        del project.env[name]
    profiles = [word for name in ALL for word in ("--profile", name)]
    return json.loads(project.compose(*profiles, "config", "--format", "json"))


def test_it_has_the_names_and_ports_of_the_operators_document(shipped):
    assert shipped["name"] == "marketswarm"
    [(name, network)] = shipped["networks"].items()
    assert (name, network["name"], network["external"]) == ("marketswarm-bus", "marketswarm-bus", True)
    for bus, port in zip(BUSES, ("6379", "6380"), strict=True):
        [published] = shipped["services"][bus]["ports"]
        assert (published["host_ip"], published["published"], published["target"]) == (
            "127.0.0.1",
            port,
            6379,
        )
        [data] = [one for one in shipped["services"][bus]["volumes"] if one["target"] == "/data"]
        assert data["source"] == f"{bus.replace('-', '_')}_data"
        assert shipped["volumes"][data["source"]]["name"] == f"marketswarm_{data['source']}"


def test_it_starts_in_the_order_of_the_operators_document(shipped):
    services = shipped["services"]
    waits = {bus: services["bootstrap"]["depends_on"][bus]["condition"] for bus in BUSES}
    assert waits == dict.fromkeys(BUSES, "service_healthy")
    for svc in (*AGENTS, "healer-standby"):
        assert services[svc]["depends_on"]["bootstrap"]["condition"] == "service_completed_successfully"
        assert services[svc]["restart"] == "unless-stopped"
    for service in services.values():
        assert set(service["networks"]) == {"marketswarm-bus"}
