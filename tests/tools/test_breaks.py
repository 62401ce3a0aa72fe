"""The mistakes of `make breaks` can be made: what each replaces stands in its file, once."""

import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]
MISTAKES = tomllib.loads((ROOT / "tools/breaks.toml").read_text(encoding="utf-8"))["break"]


def test_each_mistake_changes_one_place_of_the_code():
    bad = [
        mistake["what"]
        for mistake in MISTAKES
        if (ROOT / mistake["file"]).read_text(encoding="utf-8").count(mistake["old"]) != 1
        or mistake["old"] == mistake["new"]
        or not (ROOT / mistake["tests"].partition("::")[0]).exists()
    ]
    assert not bad
