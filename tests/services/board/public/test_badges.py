"""Badges: their words, their pictures and their JSON."""

from xml.etree import ElementTree as ET

import orjson
import pytest

from marketswarm.status.service_rows import ServiceState
from services.board.public.badges import (
    LOOKS,
    Badge,
    draw_badge,
    encode_badge,
    encode_shields,
    estimate_width,
    make_badge,
)
from support.board_examples import HOSTILE, make_service

SVG = "{http://www.w3.org/2000/svg}"


def read_texts(badge: Badge) -> list[str]:
    """Return the texts of a badge's picture, which must be well-formed."""
    root = ET.fromstring(draw_badge(badge))  # noqa: S314 - we made it
    assert {each.tag.removeprefix(SVG) for each in root.iter()} <= {
        *("svg", "title", "clipPath", "rect", "g", "text"),
    }
    return ["".join(each.itertext()) for each in root.iter(f"{SVG}text")]


@pytest.mark.parametrize(
    ("state", "word", "colour"),
    [
        (ServiceState.UP, "up", "success"),
        (ServiceState.SILENT, "late", "important"),
        (ServiceState.DOWN, "down", "critical"),
        (ServiceState.FAILED, "failed", "critical"),
        (ServiceState.UNKNOWN, "unknown", "inactive"),
        (ServiceState.UNWATCHABLE, "unknown", "inactive"),
    ],
)
def test_a_state_has_a_word_and_a_colour(state, word, colour):
    badge = make_badge("shop", [make_service("shop", state)])
    assert read_texts(badge) == ["shop", word]
    assert orjson.loads(encode_shields(badge)) == {
        "schemaVersion": 1,
        "label": "shop",
        "message": word,
        "color": colour,
    }


def test_every_state_has_a_look():
    assert LOOKS.keys() == set(ServiceState)


def test_a_board_that_has_not_looked_lately_says_nothing_of_a_service():
    assert make_badge("shop", [make_service("shop")], is_current=False).message == "unknown"
    assert make_badge("web", [make_service("shop")], is_current=False).message == "unknown"


def test_a_tag_has_the_worst_state_of_its_services():
    up, late = make_service("a"), make_service("b", ServiceState.SILENT)
    down = [make_service(name, ServiceState.DOWN) for name in "cd"]
    assert make_badge("web", [up, up]).message == "up"
    assert make_badge("web", [up, late]).message == "late"
    badge = make_badge("web", [up, late, *down])
    assert badge.message == "2 of 4 down"
    assert orjson.loads(encode_badge(badge)) == {
        "label": "web",
        "status": "down",
        "message": "2 of 4 down",
        "total": 4,
        "down": 2,
        "grace": 1,
    }
    assert make_badge("web", []).message == "unknown"


@pytest.mark.parametrize("text", HOSTILE)
def test_no_text_is_markup_in_a_picture(text):
    label, _ = read_texts(make_badge(text, [make_service("a")]))
    assert label.isprintable()
    assert b"<script" not in draw_badge(Badge(text, ServiceState.UP))


def test_a_long_label_is_cut_and_the_picture_is_as_wide_as_its_texts():
    badge = make_badge("w" * 500, [make_service("a")])
    assert badge.label == "w" * 59 + "…"
    root = ET.fromstring(draw_badge(badge))  # noqa: S314 - we made it
    texts = [int(each.attrib["textLength"]) for each in root.iter(f"{SVG}text")]
    assert int(root.attrib["width"]) == sum(texts) + 4 * 6


def test_the_width_of_a_text_is_estimated():
    assert estimate_width("") == 0
    assert estimate_width("il") < estimate_width("mw")
    assert 20 <= estimate_width("up") + estimate_width("é") <= 24
    assert estimate_width("\N{CJK UNIFIED IDEOGRAPH-4E2D}") > estimate_width("a")
