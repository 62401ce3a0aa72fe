"""Which services have a program here: what `python -m` would run."""

import subprocess
import sys

import pytest

from marketswarm.agent.service_modules import find_modules


def test_a_service_has_a_module_when_its_package_can_be_run(tmp_path, monkeypatch):
    for name in ("services", "services/good", "services/new_svc", "services/no_main"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise RuntimeError('imported')")
    (tmp_path / "services/good/__main__.py").write_text("")
    (tmp_path / "services/new_svc/__main__.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(__import__("sys").modules, "services", raising=False)
    found = find_modules(["good", "new-svc", "no_main", "absent", "../good", "good.__main__"])
    assert found == {"good": "services.good", "new-svc": "services.new_svc"}


@pytest.mark.parametrize("svc", ["healer", "sentinel", "notifier"])
def test_the_watchers_are_packages_of_their_own(svc):
    assert find_modules([svc]) == {svc: svc}


def test_a_folder_of_ones_own_is_beside_what_is_installed(tmp_path, monkeypatch):
    """As `python -m` sees it there, which is what runs it."""
    (tmp_path / "services/prices").mkdir(parents=True)
    for name in ("__init__.py", "__main__.py"):
        (tmp_path / "services/prices" / name).write_text("import services.mesh", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    assert find_modules(["prices", "mesh"]) == {"prices": "services.prices", "mesh": "services.mesh"}
    subprocess.run([sys.executable, "-m", "services.prices"], check=True)
