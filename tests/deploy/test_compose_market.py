"""The market station in containers: compose.market.yaml over compose.yaml, as text and by Docker Compose."""

import functools
import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from bootstrap.database import SERVER
from marketswarm.fleet.postgres import SETTINGS, STOP_SIGNAL
from support.waiting import until

ROOT = Path(__file__).parents[2]
FILES = ("compose.yaml", "compose.market.yaml")
PLAIN, OVERLAY = (yaml.safe_load((ROOT / file).read_text(encoding="utf-8")) for file in FILES)
TRUTH = json.loads((ROOT / "examples/market.json").read_bytes())
NEW = ("sources", "bars", "archive")
ASKING = {"sources", "gate"}
USERS_OF_THE_DATABASE = {"archive", "board"}
USERS = (
    "/etc/postgresql/users"  # where the server finds the volume `users`, which `access` has at /access/acl
)

ROLES = "/docker-entrypoint-initdb.d/reader.sh"  # what the image runs once it has made its data

Service = dict[str, Any]


def merge(first: Service, second: Service) -> Service:
    """Return what Compose makes of two descriptions of a service: the second one changes the first."""
    made = {**first, **second}
    for key in ("environment", "depends_on"):
        if key in first or key in second:
            made[key] = {**first.get(key, {}), **second.get(key, {})}
    volumes = [*first.get("volumes", []), *second.get("volumes", [])]
    if volumes:
        made["volumes"] = list({target_of(each): each for each in volumes}.values())
    return made


def target_of(volume: str | dict[str, Any]) -> str:
    return str(volume["target"]) if isinstance(volume, dict) else volume.split(":")[1]


def described(name: str, services: dict[str, Service]) -> Service:
    """Return a service of one file, with what it extends."""
    service = dict(services[name])
    extends = service.pop("extends", None)
    if extends is None:
        return service
    there = PLAIN["services"] if "file" in extends else services
    return merge(described(extends["service"], there), service)


def in_force() -> dict[str, Service]:
    """Return the services that run by default."""
    found = {}
    for name in {**PLAIN["services"], **OVERLAY["services"]}:
        made = merge(PLAIN["services"].get(name, {}), {})
        if name in OVERLAY["services"]:
            made = merge(made, described(name, OVERLAY["services"]))
        if "profiles" not in made:
            found[name] = made
    return found


SERVICES = in_force()
every_service = pytest.mark.parametrize("name", sorted({*NEW, "gate", "postgres", "board"}))


@functools.cache
def compose_reads() -> dict[str, Any]:
    """Return what Docker Compose makes of both files; skip where there is none."""
    if shutil.which("docker") is None:
        pytest.skip("needs docker on PATH")
    environ = {key: os.environ[key] for key in ("PATH", "HOME", "DOCKER_CONFIG") if key in os.environ}
    environ |= {"COMPOSE_FILE": ":".join(FILES), "COMPOSE_ENV_FILES": os.devnull}
    line = ["docker", "compose", "config", "--format", "json"]
    ended = subprocess.run(
        line, cwd=ROOT, env=environ, capture_output=True, text=True, check=False, timeout=60
    )
    if "unknown command" in ended.stderr or "is not a docker command" in ended.stderr:
        pytest.skip("needs docker's plugin compose")
    assert ended.returncode == 0, ended.stderr
    return dict(json.loads(ended.stdout))


def test_docker_compose_reads_both_files_as_these_tests_do():
    read = compose_reads()["services"]
    assert set(read) == set(SERVICES)
    for name, ours in SERVICES.items():
        theirs = read[name]
        if name in {*NEW, "gate"}:
            assert theirs["command"] == ours["command"]
        waits = {other: each["condition"] for other, each in theirs.get("depends_on", {}).items()}
        assert waits == {other: each["condition"] for other, each in ours.get("depends_on", {}).items()}, name
        assert {each["target"] for each in theirs.get("volumes", [])} == {
            target_of(each) for each in ours.get("volumes", [])
        }, name
        assert {each["source"] for each in theirs.get("secrets", [])} == set(ours.get("secrets", [])), name
        assert set(theirs.get("environment", {})) == set(ours.get("environment", {})), name
        assert theirs.get("restart") == ours.get("restart"), name


# --- what there is ---


def test_every_service_of_the_example_has_a_container_and_what_it_does_without_has_none():
    rest = {"access", "bootstrap", "gate", "postgres", "system-redis", "market-redis"}
    assert set(SERVICES) == {*TRUTH["services"], *rest}
    for name in TRUTH["services"]:
        module = name if name in ("healer", "sentinel", "notifier") else f"services.{name}"
        assert SERVICES[name]["command"] == ["python", "-m", module]
    for name in set(json.loads((ROOT / "truth.json").read_bytes())["services"]) - set(TRUTH["services"]):
        assert OVERLAY["services"][name] == {"profiles": ["news"]}


@every_service
def test_each_container_is_without_root_rights_or_a_file_system_to_write_to(name):
    service = SERVICES[name]
    assert (service["read_only"], service["init"], service["cap_drop"]) == (True, True, ["ALL"])
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert 0 < service["pids_limit"] <= 256
    assert re.fullmatch(r"\$\{\w+_MEM_LIMIT:-\d+[mg]\}", service["mem_limit"])
    assert service["logging"]["options"]["max-size"]
    assert service["networks"] == ["marketswarm-bus"]
    assert all(":size=" in each for each in service["tmpfs"])
    assert not service.keys() & {
        "privileged",
        "cap_add",
        "devices",
        "pid",
        "ipc",
        "network_mode",
        "container_name",
    }
    tag = re.fullmatch(r"(?:\$\{\w+:-)?[a-z/]+:(?:\$\{\w+:-)?([\w.]+)\}?", service["image"])
    assert tag, "an image is named with its tag"
    assert tag[1] != "latest"


def test_nothing_more_is_published_on_the_host():
    assert not [name for name, service in OVERLAY["services"].items() if "ports" in service]


def test_the_truth_that_is_seeded_is_that_of_the_users_and_its_recording_is_there():
    for name in ("access", "bootstrap", "operator"):
        (truth,) = OVERLAY["services"][name]["volumes"]
        assert (truth["source"], truth["target"]) == (
            "${TRUTH_FILE:-./examples/market.json}",
            "/app/truth.json",
        )
    recording = TRUTH["services"]["sources"]["settings"]["replay"]["file"]
    assert (ROOT / recording).is_file()
    for name in ASKING:
        (folder,) = (each for each in SERVICES[name]["volumes"] if target_of(each) == "/app/examples")
        assert recording.startswith(f"{folder['source'].removeprefix('./')}/")
        assert folder["read_only"] is True


# --- what waits for what ---


def test_readers_begin_after_the_gate_archive_after_its_database_and_the_gate_after_the_truth():
    done, well = ({"condition": f"service_{each}"} for each in ("completed_successfully", "healthy"))
    assert SERVICES["bars"]["depends_on"] == {"bootstrap": done, "gate": done}
    assert SERVICES["archive"]["depends_on"] == {"bootstrap": done, "gate": done, "postgres": well}
    assert SERVICES["sources"]["depends_on"] == SERVICES["gate"]["depends_on"] == {"bootstrap": done}
    gated = {
        name for name, section in TRUTH["services"].items() if "sources" in section.get("depends_on", [])
    }
    assert {name for name, service in SERVICES.items() if "gate" in service.get("depends_on", {})} == gated
    # else each new image of ours restarts it: Compose recreates what depends on what it recreates
    assert "depends_on" not in SERVICES["postgres"]


def test_the_gate_is_run_once_and_asks_as_sources_does():
    gate, sources = dict(SERVICES["gate"]), dict(SERVICES["sources"])
    assert gate.pop("command") == ["python", "-m", "services.sources.gate"]
    assert (gate.pop("restart"), gate.pop("healthcheck")) == ("no", {"disable": True})
    for key in ("command", "restart", "healthcheck"):
        del sources[key]
    assert gate == sources


def test_the_database_waits_for_its_passwords_and_is_set_as_that_of_marketswarm_up(tmp_path):
    service = SERVICES["postgres"]
    *shell, script = service["command"]
    assert shell == ["sh", "-c"]
    password, said = tmp_path / "password", tmp_path / "said"
    started = tmp_path / "docker-entrypoint.sh"
    started.write_text(f'#!/bin/sh\necho "$*" >{said}.draft && mv {said}.draft {said}\n', encoding="ascii")
    started.chmod(0o755)
    files = {"POSTGRES_PASSWORD_FILE": str(password), "POSTGRES_READER_FILE": str(tmp_path / "reader")}
    environ = {"PATH": f"{tmp_path}:{os.environ['PATH']}", **files}
    password.touch()  # it is not written yet
    with subprocess.Popen([*shell, script.replace("$$", "$")], env=environ) as server:
        try:
            for file in (password, tmp_path / "reader"):
                with pytest.raises(subprocess.TimeoutExpired):
                    server.wait(1)
                file.write_text("SCRAM-SHA-256$…\n", encoding="utf-8")
            until(said.exists, 30)
        finally:
            server.kill()
    words = said.read_text(encoding="ascii").split()
    assert words[0] == "postgres"
    assert dict(word.split("=") for word in words if "=" in word).items() <= SETTINGS.items()
    assert service["stop_signal"] == STOP_SIGNAL.name
    assert "--host=localhost" in service["healthcheck"]["test"]  # its socket answers while it is being made
    assert "postgres_data:/var/lib/postgresql/data" in service["volumes"]
    assert service["environment"]["PGDATA"] == "/var/lib/postgresql/data"
    assert "postgres_data" in OVERLAY["volumes"]


# --- who knows what ---


def keys_of(name: str) -> list[str]:
    return [each["volume"]["subpath"] for each in SERVICES[name]["volumes"] if target_of(each) == "/keys"]


def test_each_is_given_its_own_urls_and_the_database_verifiers_alone():
    for name in (*NEW, "board"):
        assert keys_of(name) == [f"urls/{name}"]
    assert keys_of("gate") == ["urls/sources"]
    assert keys_of("postgres") == []
    mounted = {target_of(each): each for each in SERVICES["postgres"]["volumes"]}
    assert set(mounted) == {"/var/lib/postgresql/data", ROLES, USERS}
    script = mounted[ROLES]
    assert script["read_only"] is True
    assert os.access(ROOT / script["source"], os.X_OK)  # else the image's program reads it into itself
    assert (mounted[USERS]["source"], mounted[USERS]["read_only"]) == ("users", True)
    assert "users:/access/acl" in PLAIN["services"]["access"]["volumes"]
    password = SERVICES["postgres"]["environment"]["POSTGRES_PASSWORD_FILE"]
    # bootstrap.database writes acl/<SERVER>/password and acl/<SERVER>/reader
    assert password == f"{USERS}/{SERVER}/password"
    assert SERVICES["postgres"]["environment"]["POSTGRES_READER_FILE"] == f"{USERS}/{SERVER}/reader"


def test_backups_are_on_a_volume_and_outlive_the_container():
    archive = SERVICES["archive"]
    assert f"archive_backups:{archive['environment']['ARCHIVE_BACKUP_FOLDER']}" in archive["volumes"]
    assert "archive_backups" in OVERLAY["volumes"]


def test_the_url_of_the_database_is_with_archive_and_board_and_no_secret_is_written_down():
    with_url = {name for name in SERVICES if "DATABASE_URL_FILE" in SERVICES[name].get("environment", {})}
    assert with_url == USERS_OF_THE_DATABASE
    secret = re.compile(r"(?:PASSWORD|TOKEN|SECRET|_KEY|URL)$")
    for name, service in OVERLAY["services"].items():
        said = service.get("environment", {})
        assert not [key for key, value in said.items() if secret.search(key) and value is not None], name


def test_the_keys_of_sources_are_with_who_asks_them_and_come_from_where_git_takes_nothing():
    with_keys = {name for name, service in SERVICES.items() if "env_file" in service}
    assert with_keys == ASKING
    assert {name for name in SERVICES if "sources_keys" in SERVICES[name].get("secrets", [])} == ASKING
    (file,) = SERVICES["sources"]["env_file"]
    path = re.fullmatch(r"\$\{SOURCES_ENV_FILE:-\./(.+)\}", file["path"])[1]
    assert file["required"] is False
    ignored = (ROOT / ".gitignore").read_text(encoding="utf-8").split()
    assert any(
        path.startswith(each.strip("/") + "/") for each in ignored if each.startswith(("/deploy", "deploy"))
    )
    # a name without a value would take the place of what the file says of it
    assert not set(SERVICES["sources"]["environment"]) & set(catalog_variables())


def catalog_variables() -> set[str]:
    found = set()
    for path in (ROOT / "services/sources/catalog").glob("*.toml"):
        found |= set(
            re.findall(r'^(?:secret_)?env = "(\w+)"', path.read_text(encoding="utf-8"), re.MULTILINE)
        )
    assert len(found) > 20
    return found | {f"{name}_FILE" for name in found}
