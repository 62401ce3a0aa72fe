"""Holds the pages that tools/reference.py makes to the models and to the command line."""

import importlib.util
import sys
from typing import Annotated

import orjson
from pydantic import TypeAdapter

from support.pages import ROOT


def load_tool():
    place = importlib.util.spec_from_file_location("reference", ROOT / "tools" / "reference.py")
    assert place is not None
    assert place.loader is not None
    module = importlib.util.module_from_spec(place)
    sys.modules["reference"] = module
    place.loader.exec_module(module)
    return module


reference = load_tool()
SECTIONS = reference.build_truth_sections()


def test_the_pages_are_current():
    old = [path.name for path, make in reference.PAGES.items() if path.read_text(encoding="utf-8") != make()]
    assert old == [], "run .venv/bin/python tools/reference.py"


def test_each_key_says_what_it_is_and_shows_an_example_that_its_model_takes():
    for section in SECTIONS:
        for key in section.keys:
            assert key.what, f"{section.path}.{key.name} has no docstring"
            if key.inner is None and key.name not in ("endpoints", "settings"):
                example = orjson.loads(key.example.strip("`"))
                field = reference.get_field(section.of, key.name) if section.path else None
                if field is not None:
                    TypeAdapter(Annotated[field.annotation, None, *field.metadata]).validate_python(example)


def test_the_page_has_the_settings_of_every_service_that_has_a_model():
    paths = {section.path for section in SECTIONS}
    with_model = {path.parent.name for path in ROOT.glob("services/*/settings.py")} | {"notifier"}
    assert {f"services.{svc}.settings" for svc in with_model} <= paths


def test_every_command_is_on_the_page():
    page = (ROOT / "docs" / "commands.md").read_text(encoding="utf-8")
    for name in ("up", "status", "exec", "notify test"):
        assert f"\nmarketswarm {name} [OPTIONS]" in page
