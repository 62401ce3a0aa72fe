"""What the pages of "Add" show to whom, without a fleet."""

import shlex
from dataclasses import replace

import pytest

from marketswarm.cli.app import load_all_commands
from marketswarm.operator.tokens import Scope
from marketswarm.truth.document_edit import AddedKind, EntryFields
from services.board.fleet.frame import Frame
from services.board.templates import TEMPLATES
from services.board.truth.add_pages import AddPage, Choice
from services.board.truth.editor import CheckAnswer
from services.board.truth.entry_change import EntryChange, Verb
from services.board.truth.pages import TruthReviewPage
from support.board_examples import make_small
from support.board_pages import make_session

FRAME = Frame("Add", "/truth/add", make_small(), "0-0")
SEEDS = replace(FRAME, session=make_session("deploy", "kim", Scope.SEED))
CHECKED = CheckAnswer(valid=True, sha256="1", changes=("+ backup",))
NOT_ALLOWED = "The truth does not let the board change it"


@pytest.mark.parametrize("kind", Choice)
def test_who_may_seed_has_a_form_for_each_kind(kind: Choice):
    shown = TEMPLATES.render(AddPage(SEEDS, kind, {}, may_edit=True))
    assert '<form class="edit" method="post" action="/truth/add">' in shown
    assert NOT_ALLOWED not in shown
    assert ('name="schedule"' in shown) == (kind in (Choice.JOB, Choice.ELSEWHERE))
    assert ('name="url"' in shown) == (kind is Choice.PAGE)
    assert all(f'href="/truth/add?kind={other}"' in shown for other in Choice if other != kind)


@pytest.mark.parametrize("frame", [FRAME, replace(FRAME, session=make_session("wall", "kim", Scope.WRITE))])
def test_nobody_else_has_a_form_but_the_command_that_does_the_same(frame: Frame):
    shown = TEMPLATES.render(AddPage(frame, Choice.JOB, {}, may_edit=True))
    assert 'action="/truth/add"' not in shown
    assert "--scope seed" in shown
    assert "marketswarm add job backup --schedule &#39;0 3 * * *&#39;" in shown


@pytest.mark.parametrize("kind", Choice)
def test_each_command_that_is_shown_is_one(kind: Choice):
    for line in AddPage(FRAME, kind, {}).commands:
        words = shlex.split(line)
        assert words[:2] == ["marketswarm", "add"]
        load_all_commands().commands["add"].commands[words[2]].make_context(words[2], words[3:])


def test_the_command_for_a_shell_adds_the_same_and_no_text_leaves_its_word():
    fields = EntryFields(every_sec=31_536_000.0, tags=("a b", "$(id)"), description="it's; rm -rf /")
    words = shlex.split(EntryChange(Verb.ADD, "worker", fields, AddedKind.DAEMON).write_command())
    assert words == [
        *("marketswarm", "add", "daemon", "worker"),
        *("--every=31536000s", "--description=it's; rm -rf /", "--tag=a b", "--tag=$(id)"),
    ]
    parsed = load_all_commands().commands["add"].commands["daemon"].make_context("daemon", words[3:])
    assert (parsed.params["every_sec"], parsed.params["tags"]) == (31_536_000, ["a b", "$(id)"])


def test_a_truth_that_is_not_to_be_changed_by_the_board_is_only_compared():
    assert NOT_ALLOWED in TEMPLATES.render(AddPage(SEEDS, Choice.JOB, {}))
    change = EntryChange(Verb.ADD, "backup", EntryFields(schedule="@daily"))
    shown = TEMPLATES.render(TruthReviewPage(SEEDS, "0", CHECKED, text="{}", change=change))
    assert "<code>marketswarm add job backup --schedule=@daily</code></pre>" in shown
    assert "+ backup" in shown
    assert 'action="/truth/seed"' not in shown
    allowed = TEMPLATES.render(TruthReviewPage(SEEDS, "0", CHECKED, text="{}", change=change, may_edit=True))
    assert 'name="change" value="{&#34;verb&#34;:&#34;add&#34;' in allowed
