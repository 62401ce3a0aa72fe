"""An embedded fleet with signals makes a key of its log and runs a witness; keys that are there stay."""

import json
import os

import httpx
import pytest

from marketswarm.exit import Exit
from marketswarm.fleet.log_witness import prepare_log_witness
from marketswarm.fleet.plan import make_plan
from marketswarm.truth import parse_truth
from services.signals.key_file import read_key_file
from services.signals.log.note import SignatureKind
from services.signals.proofs.signing import find_witness
from services.signals.settings import SignalsEnvironment, SignalsSettings
from support.rig import Process
from support.waiting import until

pytestmark = pytest.mark.live
SECTION = {
    "heartbeat": {"interval_sec": 5},
    "endpoints": [{"voter": "trend", "kind": "bars", "rule": "trend", "weight": 1}],
    "settings": {"least_votes": 1},
}


@pytest.fixture
def fleet(tmp_path, monkeypatch):
    """Returns a function that prepares the log's witness of a fleet."""
    for name in ("SIGNALS_LOG_KEY_FILE", "SIGNALS_WITNESS_URL"):
        monkeypatch.delenv(name, raising=False)

    def prepare(service="signals", environ=(), **settings):

        bus = {"url": "redis://system-redis:6379"}
        section = {**SECTION, "settings": {**SECTION["settings"], **settings}}
        document = {
            "version": 1,
            "fleet": "a demo",
            "buses": {"system-redis": bus, "market-redis": {"url": "redis://market-redis:6379"}},
            "services": {service: section},
        }
        path = tmp_path / "truth.json"
        path.write_text(json.dumps(document))
        truth = parse_truth(path.read_bytes()).truth
        plan = make_plan(truth, known={}, modules={service: f"services.{service}"}, port=7000)
        data = tmp_path / "data"
        data.mkdir(exist_ok=True)
        return prepare_log_witness(plan, truth, path, data, dict(environ))

    return prepare


def test_keys_are_made_once_and_are_for_their_owner_alone(fleet, tmp_path):
    first = fleet()
    folder = tmp_path / "data/signals"
    assert first.folder == folder
    key = read_key_file(folder / "log.key", SignatureKind.ED25519)
    assert (key.public.name, f"{key.public}\n") == ("a-demo/signals", (folder / "log.pub").read_text())
    assert folder.stat().st_mode & 0o777 == 0o700
    assert {each.stat().st_mode & 0o777 for each in folder.iterdir()} == {0o600}
    assert fleet().environ()["SIGNALS_WITNESS_KEY"] == first.environ()["SIGNALS_WITNESS_KEY"]
    assert read_key_file(folder / "log.key", SignatureKind.ED25519).public == key.public
    assert not any("PRIVATE" in word for word in first.command)


def test_what_a_killed_start_left_is_made_anew(fleet, tmp_path):
    (tmp_path / "data/signals.new").mkdir(parents=True, mode=0o700)
    (tmp_path / "data/signals.new/log.key").write_text("half")
    fleet()
    assert sorted(each.name for each in (tmp_path / "data").iterdir()) == ["signals"]


@pytest.mark.parametrize(
    ("service", "environ", "settings"),
    [
        ("other", {}, {}),
        ("signals", {"SIGNALS_LOG_KEY_FILE": "log.key"}, {}),
        ("signals", {"SIGNALS_WITNESS_URL": "http://127.0.0.1:1"}, {}),
        ("signals", {}, {"witness": {"url": "http://127.0.0.1:1", "key": "w+1+a"}}),
    ],
)
def test_nothing_is_made_for_a_fleet_that_has_its_own(fleet, tmp_path, service, environ, settings):
    assert fleet(service, environ, **settings) is None
    assert list((tmp_path / "data").iterdir()) == []


def test_a_key_that_can_not_be_made_ends_the_start_with_the_reason(fleet, tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data/signals.new").write_text("in the way")
    with pytest.raises((Exit, OSError)):
        fleet()


def test_the_witness_answers_and_signals_finds_it_by_its_variables(fleet, tmp_path, monkeypatch):
    witness = fleet()
    process = Process()
    process.spawn(witness.command, cwd=tmp_path, env={**os.environ, **witness.child_environ})
    try:
        for name, value in witness.environ().items():
            monkeypatch.setenv(name, value)
        target = find_witness(SignalsSettings.model_validate(SECTION), SignalsEnvironment())
        assert target.key.startswith("a-demo/witness-of-this-fleet+")

        def answers() -> bool:
            try:
                return httpx.get(f"{target.url}/healthz").status_code == 200
            except httpx.TransportError:
                return False

        until(answers, what="the witness to answer")
    finally:
        process.close()


def test_a_truth_that_names_a_witness_wins_over_the_environment(monkeypatch):
    monkeypatch.setenv("SIGNALS_WITNESS_URL", "http://127.0.0.1:1")
    only_url = find_witness(SignalsSettings.model_validate(SECTION), SignalsEnvironment())
    assert only_url is None
    monkeypatch.setenv("SIGNALS_WITNESS_KEY", "w+1+a")
    named = {"url": "https://witness.example", "key": "other+1+a"}
    settings = SignalsSettings.model_validate({**SECTION, "settings": {"least_votes": 1, "witness": named}})
    assert find_witness(settings, SignalsEnvironment()).key == "other+1+a"
