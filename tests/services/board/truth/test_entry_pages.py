"""What the form about an entry shows to whom, without a fleet."""

from dataclasses import replace

import pytest

from marketswarm.operator.tokens import Scope
from marketswarm.truth.document_edit import TruthEntry
from services.board.fleet.frame import Frame
from services.board.templates import TEMPLATES
from services.board.truth.editor import CheckAnswer
from services.board.truth.entry_change import EntryChange, Verb
from services.board.truth.entry_pages import EntryPage
from services.board.truth.pages import TruthReviewPage
from support.board_examples import make_small
from support.board_pages import make_session

FRAME = Frame("backup", "/truth", make_small(), "0-0")
SEEDS = replace(FRAME, session=make_session("deploy", "kim", Scope.SEED))
SERVICE = TruthEntry(is_page=False, is_paused=False, fields={"schedule": "0 3 * * *"})
PAGE = TruthEntry(is_page=True, is_paused=True, fields={"url": "https://shop.example/"})


def test_who_may_seed_can_edit_pause_and_remove_a_service():
    shown = TEMPLATES.render(EntryPage(SEEDS, "backup", SERVICE, {"schedule": "0 3 * * *"}, may_edit=True))
    assert 'name="schedule" type="text" value="0 3 * * *"' in shown
    assert all(f'name="verb" value="{verb}"' in shown for verb in ("edit", "pause", "remove"))
    assert 'value="resume"' not in shown
    assert 'name="contains"' not in shown


def test_a_page_that_is_paused_can_be_resumed():
    shown = TEMPLATES.render(EntryPage(SEEDS, "massive/shop", PAGE, {}, may_edit=True))
    assert 'value="resume"' in shown
    assert 'value="pause"' not in shown
    assert 'name="schedule"' not in shown
    assert "paused</span>" in shown


@pytest.mark.parametrize("frame", [FRAME, replace(FRAME, session=make_session("wall", "kim", Scope.WRITE))])
def test_nobody_else_has_a_form_but_the_commands(frame: Frame):
    shown = TEMPLATES.render(EntryPage(frame, "backup", SERVICE, {}, may_edit=True))
    assert "<form" not in shown.partition("<main")[2].partition("</main>")[0]
    for command in ("edit backup --grace=30m", "pause backup", "remove backup"):
        assert f"marketswarm {command}" in shown
    assert "/sign-in?back=entry&amp;svc=backup" in shown or "/sign-in?back=entry&svc=backup" in shown


def test_a_removal_says_what_goes_and_asks_once_more():
    checked = CheckAnswer(valid=True, sha256="1", changes=("- backup",))
    change, lost = EntryChange(Verb.REMOVE, "backup"), ("It is down now: its open incident is closed.",)
    shown = TEMPLATES.render(
        TruthReviewPage(SEEDS, "0", checked, text="{}", change=change, lost=lost, may_edit=True)
    )
    assert "What goes with it" in shown
    assert lost[0] in shown
    assert "<button>Remove backup</button>" in shown
    other = EntryChange(Verb.PAUSE, "backup")
    assert "What goes with it" not in TEMPLATES.render(
        TruthReviewPage(SEEDS, "0", checked, text="{}", change=other)
    )
