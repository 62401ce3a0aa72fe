"""Holds the unit of the gate to systemd's judgement, to bootstrap's unit, and to the truth of the market."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from services.sources.settings import GateSettings
from support.pages import ROOT

UNITS = ROOT / "deploy/systemd"
GATE, BOOTSTRAP, TEMPLATE = (
    "marketswarm-gate.service",
    "marketswarm-bootstrap.service",
    "marketswarm@.service",
)
MARKET = json.loads((ROOT / "examples/market.json").read_bytes())["services"]


def settings_of(unit: str) -> list[tuple[str, str]]:
    return re.findall(r"^(\w+)=(.*)$", (UNITS / unit).read_text(encoding="utf-8"), re.MULTILINE)


def words_of(unit: str, name: str) -> list[str]:
    return [word for key, value in settings_of(unit) if key == name for word in value.split()]


@pytest.mark.needs("systemd-analyze")
def test_systemd_takes_the_gate_and_what_starts_after_it_and_finds_little_that_it_could_do(tmp_path: Path):
    for path in UNITS.rglob("*.*"):
        if path.is_file():
            copy = tmp_path / path.relative_to(UNITS)
            copy.parent.mkdir(exist_ok=True)
            text = path.read_text(encoding="utf-8")
            copy.write_text(text.replace("/opt/marketswarm/bin/python", sys.executable), encoding="utf-8")
    units = [f"./{GATE}", *(f"./marketswarm@{svc}.service" for svc in ("sources", "bars", "archive"))]
    for line in (
        ["verify", "--man=no", "--recursive-errors=no", *units],
        ["security", "--offline=true", "--no-pager", "--threshold=20", f"./{GATE}"],
    ):
        ended = subprocess.run(
            ["systemd-analyze", *line], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60
        )
        ours = [each for each in ended.stderr.splitlines() if "marketswarm" in each]
        assert (ended.returncode, ours) == (0, [])


def test_the_gate_is_walled_in_as_bootstrap_is_and_asks_as_sources_does():
    def walls(unit: str) -> list[tuple[str, str]]:
        said = settings_of(unit)
        return said[[name for name, _ in said].index("DynamicUser") :]

    assert walls(GATE) == walls(BOOTSTRAP)
    of_agent = [each.replace("%i", "sources") for each in words_of(TEMPLATE, "LoadCredential")]
    assert words_of(GATE, "LoadCredential") == of_agent
    assert "-/etc/marketswarm/sources.env" in words_of(GATE, "EnvironmentFile")
    assert words_of(GATE, "RestartPreventExitStatus") == ["2"]
    (wait_sec,) = words_of(GATE, "TimeoutStartSec")
    assert float(wait_sec) > GateSettings().timeout_sec


def test_who_reads_the_market_starts_after_the_gate_and_is_not_kept_down_by_it():
    gated = {svc for svc, section in MARKET.items() if "sources" in section.get("depends_on", [])}
    drop_ins = {path.parent.name: path for path in UNITS.glob("*/gate.conf")}
    assert set(drop_ins) == {f"marketswarm@{svc}.service.d" for svc in gated}
    for path in drop_ins.values():
        said = settings_of(str(path.relative_to(UNITS)))
        assert said == [("After", GATE)]


def test_archive_alone_may_write_to_a_folder_and_makes_its_backups_there():
    own = "marketswarm@archive.service.d/backups.conf"
    (folder,) = words_of(own, "StateDirectory")
    assert words_of(own, "StateDirectoryMode") == ["0700"]
    assert words_of(own, "Environment") == [f"ARCHIVE_BACKUP_FOLDER=%S/{folder}"]
    assert f"/var/lib/{folder}/" in (ROOT / "docs/systemd.md").read_text(encoding="utf-8")
    writable = [
        path
        for path in UNITS.rglob("*.*")
        if path.is_file()
        and re.search(r"(?m)^(?:State|Cache|Logs)Directory=|^ReadWritePaths=", path.read_text())
    ]
    assert [str(path.relative_to(UNITS)) for path in writable] == [own]
