"""Holds the units to systemd's own judgement, to the truth that is shipped, and to what the programs do."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from marketswarm.agent.service_modules import find_modules
from marketswarm.agent.watchdog import STOP_WITHIN_SEC
from marketswarm.bus import get_url_variable
from marketswarm.exit import Code
from marketswarm.settings import CommonSettings
from marketswarm.truth import parse_truth
from services.sources.settings import GateSettings
from support.compose_files import MARKET as FLEET_OF_THE_MARKET
from support.pages import ROOT, table
from support.rig import Proc

UNITS = ROOT / "deploy/systemd"
TEMPLATE, BOOTSTRAP, GATE = (
    "marketswarm@.service",
    "marketswarm-bootstrap.service",
    "marketswarm-gate.service",
)
TARGET = "marketswarm.target"
TRUTH = parse_truth((ROOT / "truth.json").read_bytes()).truth
MARKET = json.loads((ROOT / "examples/market.json").read_bytes())["services"]
EXPOSURE = 2.0  # of 10; 1.2 with systemd 252


def said(unit: str) -> list[tuple[str, str]]:
    """Each setting of a unit, in order."""
    return re.findall(r"^(\w+)=(.*)$", (UNITS / unit).read_text(encoding="utf-8"), re.MULTILINE)


def of(unit: str, name: str) -> list[str]:
    """All values of a setting that may be there several times, or holds several words."""
    return [word for key, value in said(unit) if key == name for word in value.split()]


def only(unit: str, name: str) -> str:
    (value,) = [value for key, value in said(unit) if key == name]
    return value


def environment(unit: str, svc: str) -> dict[str, str]:
    found = of(unit, "Environment")
    drop_ins = sorted((UNITS / unit.replace("@.", f"@{svc}.")).with_suffix(".service.d").glob("*.conf"))
    found += [word for each in drop_ins for word in of(str(each.relative_to(UNITS)), "Environment")]
    return dict(word.replace("%i", svc).split("=", 1) for word in found)


@pytest.fixture
def installed(tmp_path):
    """As they would be, but with a Python that is there."""
    for path in UNITS.rglob("*.*"):
        if path.is_file():
            copy = tmp_path / path.relative_to(UNITS)
            copy.parent.mkdir(exist_ok=True)
            text = path.read_text(encoding="utf-8")
            copy.write_text(text.replace("/opt/marketswarm/bin/python", sys.executable), encoding="utf-8")
    return tmp_path


def analyze(*words: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["systemd-analyze", *words], cwd=folder, capture_output=True, text=True, check=False, timeout=60
    )


@pytest.mark.needs("systemd-analyze")
def test_systemd_takes_them_without_output_finds_little_that_they_could_do_and_a_mistake(installed):
    verify = ("verify", "--man=no", "--recursive-errors=no")
    agents = [f"./marketswarm@{svc}.service" for svc in {**TRUTH.services, **MARKET}]
    ended = analyze(*verify, *(f"./{unit}" for unit in (TARGET, BOOTSTRAP, GATE)), *agents, folder=installed)
    about_ours = [line for line in (ended.stdout + ended.stderr).splitlines() if "marketswarm" in line]
    assert (ended.returncode, about_ours) == (0, [])
    limit, units = f"--threshold={EXPOSURE * 10:.0f}", [f"./{unit}" for unit in (TEMPLATE, BOOTSTRAP, GATE)]
    ended = analyze("security", "--offline=true", "--no-pager", limit, *units, folder=installed)
    assert ended.returncode == 0, ended.stdout
    wrong = installed / TEMPLATE
    wrong.write_text(wrong.read_text(encoding="utf-8").replace("WatchdogSec", "WatchDog"), encoding="utf-8")
    assert "WatchDog" in analyze(*verify, "./marketswarm@healer.service", folder=installed).stderr


def test_the_target_starts_every_agent_of_the_truth_as_the_module_that_it_is():
    wanted = {name[len("marketswarm@") : -len(".service")] for name in of(TARGET, "Wants") if "@" in name}
    assert wanted == set(TRUTH.services)
    assert BOOTSTRAP in of(TARGET, "Wants")
    assert only(TEMPLATE, "ExecStart").endswith("python -m ${MODULE}")
    modules = {svc: environment(TEMPLATE, svc)["MODULE"] for svc in TRUTH.services}
    assert modules == find_modules(TRUTH.services)


def test_all_but_a_bad_configuration_is_tried_again():
    rows = {row[0]: row[1] for row in table("docs/systemd.md", "What is started again")}
    for unit, always in ((TEMPLATE, "always"), (BOOTSTRAP, "on-failure")):
        assert only(unit, "Restart") == always
        assert of(unit, "RestartPreventExitStatus") == [str(int(Code.CONFIGURATION))]
        assert only(unit, "StartLimitIntervalSec") == "0"
    assert "failed" in rows["2, bad configuration"]
    again = next(codes for codes, done in rows.items() if done.startswith("starts it again"))
    of_agents = {str(int(code)) for code in Code if code is not Code.NOT_WATCHED} - {"2"}
    assert of_agents == set(re.findall(r"\d", again))


def test_each_has_the_time_that_its_program_may_take():
    assert (only(TEMPLATE, "Type"), only(TEMPLATE, "NotifyAccess")) == ("notify", "main")
    assert float(only(TEMPLATE, "WatchdogSec")) > 0
    assert only(BOOTSTRAP, "Type") == "oneshot"
    assert not {"WatchdogSec", "NotifyAccess"} & {name for name, _ in said(BOOTSTRAP)}
    waits = CommonSettings.model_fields
    assert float(only(TEMPLATE, "TimeoutStartSec")) > 2 * waits["truth_wait_sec"].default
    assert float(only(BOOTSTRAP, "TimeoutStartSec")) > 2 * waits["bootstrap_timeout_sec"].default
    assert float(only(TEMPLATE, "TimeoutStopSec")) >= 2 * STOP_WITHIN_SEC


def test_what_the_page_has_access_write_is_what_the_units_and_servers_read(tmp_path):
    nowhere = {f"{get_url_variable(bus)}": "redis://127.0.0.1:1" for bus in TRUTH.bus_names()}
    environ = {**nowhere, "ACCESS_DIR": str(tmp_path / "access"), "TRUTH_PATH": str(ROOT / "truth.json")}
    with Proc("bootstrap.access", environ, tmp_path) as access:
        assert access.wait(30) == 0, str(access)
    written = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    for svc in (*TRUTH.services, "bootstrap"):
        unit = BOOTSTRAP if svc == "bootstrap" else TEMPLATE
        read = {value.split(":/etc/marketswarm/")[1] for value in of(unit, "LoadCredential")}
        assert {path.replace("%i", svc) for path in read} <= written
    page = (ROOT / "docs/systemd.md").read_text(encoding="utf-8")
    shown = set(re.findall(r"/etc/marketswarm/(access/\S+(?:users\.acl|-redis))\b", page))
    assert len(shown) == 3
    assert shown <= written


def test_each_is_given_its_own_urls_where_access_puts_them():
    for unit, user in ((TEMPLATE, "%i"), (BOOTSTRAP, "bootstrap"), (GATE, "sources")):
        files = dict(value.split(":", 1) for value in of(unit, "LoadCredential"))
        without = dict(value.split(":", 1) for value in of(unit, "SetCredential"))
        assert files == {bus: f"/etc/marketswarm/access/urls/{user}/{bus}" for bus in TRUTH.bus_names()}
        given = environment(unit, user)
        for bus in TRUTH.bus_names():
            assert given[f"{get_url_variable(bus)}_FILE"] == f"%d/{bus}"
            assert re.fullmatch(r"redis://127\.0\.0\.1:63(79|80)", without[bus])


def test_bootstrap_and_the_gate_are_walled_in_as_the_agents_are():
    def walls(unit: str) -> list[tuple[str, str]]:
        settings = said(unit)
        begin = [name for name, _ in settings].index("DynamicUser")
        return [each for each in settings[begin:] if each[0] != "WantedBy"]

    assert walls(TEMPLATE) == walls(BOOTSTRAP) == walls(GATE)
    assert ("NoNewPrivileges", "yes") in walls(TEMPLATE)


def test_the_gate_asks_as_sources_does_for_as_long_as_its_settings_say():
    assert "-/etc/marketswarm/sources.env" in of(GATE, "EnvironmentFile")
    assert of(GATE, "RestartPreventExitStatus") == [str(int(Code.CONFIGURATION))]
    assert float(only(GATE, "TimeoutStartSec")) > GateSettings().timeout_sec


def test_who_reads_the_market_waits_for_the_gate_as_in_containers_and_with_bars_not_at_all():
    """Started after a gate that runs with each restart of the target, they would be silent until it ends."""
    gated = {svc for svc, section in MARKET.items() if "sources" in section.get("depends_on", [])}
    drop_ins = {path.parent.name: path for path in UNITS.glob("*/gate.conf")}
    assert set(drop_ins) == {f"marketswarm@{svc}.service.d" for svc in gated}
    for path in drop_ins.values():
        agent = only(TEMPLATE, "ExecStart")
        waits = f"{agent.split()[0]} -m services.sources.await_gate {agent}"
        assert said(str(path.relative_to(UNITS))) == [
            ("ExecStart", ""),
            ("ExecStart", waits),
            ("TimeoutStartSec", "infinity"),
        ]
    units = [str(path.relative_to(UNITS)) for path in UNITS.rglob("*.*") if path.is_file()]
    assert not [unit for unit in units if GATE in of(unit, "After")]


def test_who_computes_starts_no_more_threads_than_in_containers():
    """With a thread for each of 60 processors, TasksMax would be used up."""
    names = ("OPENBLAS_NUM_THREADS", "POLARS_MAX_THREADS")
    composed = {name: each.get("environment", {}) for name, each in FLEET_OF_THE_MARKET.items()}
    limited = {name: {key: each[key] for key in names} for name, each in composed.items() if names[1] in each}
    assert set(limited) == {"sources", "gate", "bars", "archive", "signals", "board"}
    for name, limits in limited.items():
        given = environment(GATE, name) if name == "gate" else environment(TEMPLATE, name)
        assert given.items() >= limits.items(), name


def test_archive_alone_may_write_to_a_folder_and_makes_its_backups_there():
    own = "marketswarm@archive.service.d/backups.conf"
    (folder,) = of(own, "StateDirectory")
    assert of(own, "StateDirectoryMode") == ["0700"]
    assert of(own, "Environment") == [f"ARCHIVE_BACKUP_FOLDER=%S/{folder}"]
    assert f"/var/lib/{folder}/" in (ROOT / "docs/systemd.md").read_text(encoding="utf-8")
    units = (path for path in UNITS.rglob("*.*") if path.is_file())
    writes = re.compile(r"(?m)^(?:State|Cache|Logs)Directory=|^ReadWritePaths=")
    writable = [path for path in units if writes.search(path.read_text(encoding="utf-8"))]
    assert [str(path.relative_to(UNITS)) for path in writable] == [own]


def test_a_truth_that_is_refused_keeps_no_agent_down():
    """Agents that required bootstrap would end with it, and with each seeding."""
    assert BOOTSTRAP in of(TEMPLATE, "Wants")
    assert BOOTSTRAP in of(TEMPLATE, "After")
    assert not [name for name, _ in said(TEMPLATE) if name in ("Requires", "BindsTo", "Requisite")]


WITHOUT_NEW_CODE = """
import ctypes, importlib, pkgutil, sys
if ctypes.CDLL(None).prctl(65, 1, 0, 0, 0):  # PR_SET_MDWE: what MemoryDenyWriteExecute does, since Linux 6.3
    sys.exit(77)
package = importlib.import_module(sys.argv[1])
found = [each.name for each in pkgutil.walk_packages(package.__path__, package.__name__ + ".")]
for name in [each for each in found if not each.endswith("__main__")] + sys.argv[2:]:
    importlib.import_module(name)
"""


@pytest.mark.live
@pytest.mark.parametrize("svc", [*TRUTH.services, "sources", "bars", "archive", "signals"])
def test_an_agent_and_its_libraries_need_no_memory_that_is_written_and_then_run(svc):
    assert only(TEMPLATE, "MemoryDenyWriteExecute") == "yes"
    given = environment(TEMPLATE, svc)
    lazy = ["polars"] if svc in ("bars", "board", "archive") else []
    command = [sys.executable, "-c", WITHOUT_NEW_CODE, given["MODULE"], *lazy]
    done = subprocess.run(
        command, env={**os.environ, **given}, cwd=ROOT, capture_output=True, text=True, check=False
    )
    if done.returncode == 77:
        pytest.skip("this kernel has no PR_SET_MDWE")
    assert done.returncode == 0, done.stderr
