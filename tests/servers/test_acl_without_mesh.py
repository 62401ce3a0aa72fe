"""What the operator sees of a fleet with users whose truth has no mesh, on real servers."""

import contextlib
import time

import orjson
import pytest
import redis

from marketswarm.access.passwords import format_acl_files, load_passwords, replace_url_user
from marketswarm.access.users import user_names
from marketswarm.event import Event, Kind, encode_event
from marketswarm.settings.programs import MonitorSettings
from marketswarm.truth import parse_truth
from support.rig import HOST, Server
from support.rig.shell import Shell

pytestmark = pytest.mark.live

DOCUMENT = {"services": {svc: {"heartbeat": {"interval_sec": 1}} for svc in ("alpha", "healer")}}
SILENT = {"verdict": "down", "ts": 1762433458.0}


@pytest.fixture
def shell(tmp_path):
    """A shell with the operator's URLs; the fleet knows that alpha is down."""
    truth = parse_truth(orjson.dumps(DOCUMENT)).truth
    known, _ = load_passwords(tmp_path / "secrets", user_names(truth), make_missing=True)
    shell = Shell(tmp_path)
    with contextlib.ExitStack() as ends:
        for bus, text in format_acl_files(truth, known, MonitorSettings(), ()).items():
            server = ends.enter_context(Server(tmp_path / bus))
            if bus == "system-redis":
                server.cmd("HSET", "healer:roster", "alpha", orjson.dumps(SILENT))
                miss = encode_event(Event(Kind.HEARTBEAT_MISS, "alpha", time.time(), "e1", "healer"))
                server.cmd("XADD", "healer:alerts:log", "*", "event", miss)
            with redis.Redis(HOST, server.port) as client:
                for line in filter(lambda line: not line.startswith("user default "), text.splitlines()):
                    client.execute_command("ACL", "SETUSER", *line.split()[1:])
            variable = bus.upper().replace("-", "_") + "_URL"
            shell.env[variable] = replace_url_user(server.url, "operator", known["operator"])
        truth_file = tmp_path / "truth.json"
        truth_file.write_bytes(orjson.dumps(DOCUMENT))
        shell.said("seed", str(truth_file))  # which loads the functions, too
        yield shell


def test_status_shows_who_is_down_and_every_bus_as_there_and_topology_and_alerts_are_shown_too(shell):
    seen = orjson.loads(shell.said("status", "--json"))
    [alpha] = [each for each in seen["services"] if each["svc"] == "alpha"]
    assert alpha["verdict"] == "down"
    assert seen.get("away", {}) == {}

    assert "auth" not in shell.said("topology")
    with shell.start("alerts", "--since", "1h") as alerts:
        assert "alpha" in alerts.stdout.readline(), alerts.stderr.read()
