"""Scripts of the tree: each is found, each has its function, and none leans on what others may change."""

import re
from pathlib import Path

from marketswarm.bus.scripts import Script, load_all_scripts

ROOT = Path(__file__).parents[3]
TOPS = [ROOT / name for name in ("marketswarm", "healer", "notifier", "services")]
FILES = sorted(path for top in TOPS for path in top.rglob("*.lua"))


def test_every_script_that_code_names_is_among_those_that_seeding_loads():
    called = re.compile(r'Script\.beside\("([^"]+)", "([^"]+)"\)')
    found = load_all_scripts()
    named = [name for top in TOPS for path in top.rglob("*.py") for name in called.findall(path.read_text())]
    assert len(named) >= 24
    for package, file in named:
        script = Script.beside(package, file)
        assert found[script.function].text == script.text


def test_a_fragment_is_part_of_others_and_none_itself():
    assert not [name for name in load_all_scripts() if "fence" in name]
    assert "local function is_leader()" in Script.beside("marketswarm.monitor", "publish.lua").text


def test_another_source_has_another_function():
    one, same, other = Script("return 1", "x"), Script("return 1", "x"), Script("return 2", "x")
    assert one.function == same.function != other.function
    assert "flags = {'no-writes'}" in Script("-- flags: no-writes\nreturn 1", "x").library
    assert Script("return 1").function == ""


def test_a_service_of_ones_own_has_its_scripts_loaded_too(tmp_path, monkeypatch):
    (tmp_path / "services/prices/deep").mkdir(parents=True)
    (tmp_path / "services/prices/.cache").mkdir()
    (tmp_path / "services/prices/deep/spend.lua").write_text("return 7")
    (tmp_path / "services/prices/.cache/other.lua").write_text("return 8")
    monkeypatch.chdir(tmp_path)
    mine = [name for name in load_all_scripts() if "prices" in name]
    assert [name.rpartition("_")[0] for name in mine] == ["marketswarm_services_prices_deep_spend"]


def test_in_a_folder_that_was_removed_the_scripts_of_the_product_are_found(tmp_path, monkeypatch):
    here = set(load_all_scripts())
    monkeypatch.chdir(tmp_path)
    tmp_path.rmdir()
    assert set(load_all_scripts()) == here


def test_no_script_leans_on_what_another_could_have_changed():
    """Methods of strings come from a table that all scripts share; so do globals, which nobody may set."""
    for path in FILES:
        code = re.sub(r"--[^\n]*|'[^'\n]*'|\"[^\"\n]*\"", "", path.read_text("utf-8"))
        assert not re.search(r"\w:\w+\(", code), path
        assert not re.search(r"\b(setmetatable|rawset|_G|loadstring)\b", code), path
