"""Colours of one's own: their contrast in each theme, and what `validate` says of one that can't be seen."""

import json
import re
from importlib.resources import files

import pytest

from marketswarm.agent.service_config import load_with_sections
from marketswarm.truth import TruthError
from services.board.colours import BACKGROUNDS, MIN_CONTRAST, compute_contrast

CSS = files("services.board").joinpath("static/board.css").read_text(encoding="utf-8")


def list_errors(**brand) -> list[tuple[str, str]]:
    truth = {"fleet": "testing", "services": {"board": {"heartbeat": {}, "settings": {"brand": brand}}}}
    try:
        load_with_sections(json.dumps(truth).encode())
    except TruthError as error:
        return [(each.path, each.message) for each in error.problems]
    return []


def test_the_contrast_is_that_of_the_standard():
    assert compute_contrast("#000000", "#ffffff") == pytest.approx(21)
    assert compute_contrast("#ffffff", "#767676") == pytest.approx(4.54, abs=0.005)  # WCAG's own example
    assert compute_contrast("#123456", "#123456") == 1


def test_the_backgrounds_are_those_of_the_stylesheet():
    for variable, at in (("back", 0), ("card", 1)):
        (both,) = re.findall(rf"--{variable}: light-dark\((#\w+), (#\w+)\);", CSS)
        (navy,) = re.findall(rf"--{variable}: (#\w+);", CSS)
        assert (*both, navy) == tuple(BACKGROUNDS[theme][at] for theme in ("light", "dark", "navy"))


def test_a_colour_that_is_seen_in_every_theme_is_valid_and_so_is_one_for_each():
    assert (
        list_errors(primary="#2a7fd0", accent={"light": "#b3261e", "dark": "#ff5252", "navy": "#ff8a80"})
        == []
    )


def test_a_colour_that_fades_in_a_theme_is_refused_with_its_path_and_the_theme():
    ((path, message),) = list_errors(primary="#00ff88")
    assert path == "services.board.settings.brand.primary"
    assert f"a contrast of 1.29 in the theme light, which takes {MIN_CONTRAST:g} or more" in message
    ((path, message),) = list_errors(accent={"light": "#0b5394", "dark": "#00ff88", "navy": "#102a43"})
    assert (path, "in the theme navy" in message) == ("services.board.settings.brand.accent.navy", True)


@pytest.mark.parametrize("colour", ["red", "#12345", "#1234567", "#12345g", "#123456;}body{display:none", 5])
def test_what_is_no_colour_is_refused_where_it_stands(colour):
    assert {path for path, _ in list_errors(primary=colour)} == {"services.board.settings.brand.primary"}


@pytest.mark.parametrize(
    "logo",
    ["../logo.svg", "/etc/logo.svg", "a/b.svg", ".hidden.svg", "logo.html", "logo.svg\n", "x" * 101 + ".png"],
)
def test_a_logo_is_the_name_of_one_file_of_two_kinds(logo: str):
    assert [path for path, _ in list_errors(logo=logo)] == ["services.board.settings.brand.logo"]
    assert list_errors(logo="logo-2.svg") == []
