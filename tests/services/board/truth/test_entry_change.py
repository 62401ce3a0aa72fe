"""Changes of one entry of the truth: as commands, as what a form sends again, and as texts of a form."""

import shlex

import pytest
from hypothesis import given
from hypothesis import strategies as st

from marketswarm.cli.app import load_all_commands
from marketswarm.truth.document_edit import AddedKind, EditError, EntryFields
from marketswarm.web.limits import RefusedError
from services.board.truth.entry_change import EntryChange, Verb, parse_change
from services.board.truth.entry_fields import format_field, list_form, parse_fields

TEXT = '{"services":{"backup":{"heartbeat":{"schedule":"0 3 * * *","grace_sec":60}}}}'
words = st.one_of(st.none(), st.text(max_size=12))
seconds = st.one_of(st.none(), st.just(""), st.floats(0, 1e9, allow_nan=False))
lists = st.one_of(st.none(), st.lists(st.text(max_size=6), max_size=3).map(tuple))
fields = st.builds(
    EntryFields,
    description=words,
    tags=lists,
    depends_on=lists,
    every_sec=seconds,
    grace_sec=seconds,
    url=words,
)


@given(
    st.builds(
        EntryChange,
        st.sampled_from(Verb),
        st.text(max_size=8),
        fields,
        st.sampled_from(AddedKind),
        st.booleans(),
    )
)
def test_a_change_that_a_form_sends_again_is_the_same(change):
    text = change.encode()
    assert parse_change(text) == change
    assert text.isprintable()


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "{}", '{"verb":"burn","name":"a"}', '{"verb":"edit","name":5}', " " * 20_000 + "{}"],
)
def test_whatever_else_is_sent_is_refused(text):
    with pytest.raises(RefusedError) as refused:
        parse_change(text)
    assert refused.value.status == 422


def test_a_change_is_applied_to_the_text_of_the_moment():
    changed = EntryChange(Verb.EDIT, "backup", EntryFields(grace_sec=120.0)).apply(TEXT)
    assert changed == TEXT.replace("60", "120")
    assert EntryChange(Verb.PAUSE, "backup").apply(TEXT) == TEXT.replace("60}", '60, "monitored": false}')
    assert "backup" not in EntryChange(Verb.REMOVE, "backup").apply(TEXT)
    with pytest.raises(EditError, match="is not paused"):
        EntryChange(Verb.RESUME, "backup").apply(TEXT)


@pytest.mark.parametrize(
    ("change", "command"),
    [
        (EntryChange(Verb.REMOVE, "massive/shop"), "marketswarm remove massive/shop"),
        (EntryChange(Verb.PAUSE, "a b"), "marketswarm pause 'a b'"),
        (
            EntryChange(Verb.EDIT, "backup", EntryFields(grace_sec="", tags=(), every_sec=90.0, url="x")),
            "marketswarm edit backup --url=x --every=90s --grace= --tag=",
        ),
        (
            EntryChange(Verb.ADD, "shop", EntryFields(url="https://a/?b&c"), AddedKind.PAGE),
            "marketswarm add page shop 'https://a/?b&c'",
        ),
    ],
)
def test_the_command_does_the_same(change, command):
    assert change.write_command() == command
    words = shlex.split(command)
    group = load_all_commands().commands[words[1]]
    if words[1] == "add":
        group, words = group.commands[words[2]], words[1:]
    parsed = group.make_context(words[1], words[2:]).params
    assert parsed["name"] == change.name
    for name in ("grace_sec", "every_sec"):
        assert parsed.get(name) == getattr(change.fields, name)


@pytest.mark.parametrize(
    ("change", "path"),
    [
        (EntryChange(Verb.ADD, "backup"), "/truth/added?svc=backup&"),
        (EntryChange(Verb.ADD, "a", elsewhere=True), "/truth/added?svc=a&place=elsewhere&"),
        (EntryChange(Verb.ADD, "shop", kind=AddedKind.PAGE), "/truth?"),
        (EntryChange(Verb.EDIT, "//evil.example/x"), "/services/%2F%2Fevil.example%2Fx?"),
        (EntryChange(Verb.PAUSE, "massive/shop"), "/truth?"),
        (EntryChange(Verb.REMOVE, "backup"), "/truth?"),
    ],
)
def test_what_was_done_is_seen_on_a_page_of_ours(change, path):
    assert change.find_page() == path


def test_the_texts_of_a_form_are_what_the_document_says():
    assert (format_field(60), format_field(0.5), format_field(86_400.0)) == ("60", "0.5", "86400")
    assert format_field(["a", "b"]) == "a, b"
    assert format_field("a\nb\u202e") == r"a\nb\u202e"


def test_what_was_typed_is_what_is_changed_and_an_empty_text_removes():
    typed = {
        "every_sec": "90",
        "grace_sec": "",
        "tags": " a ,, b ",
        "depends_on": "",
        "url": "x",
        "contains": "",
    }
    assert parse_fields(typed) == EntryFields(
        every_sec=90.0, grace_sec="", tags=("a", "b"), depends_on=(), url="x", contains=""
    )


@pytest.mark.parametrize("text", ["soon", "nan", "inf", "1e999", "1h"])
def test_what_is_no_number_of_seconds_is_said(text):
    with pytest.raises(EditError, match="the grace is not a number of seconds: write 60"):
        parse_fields({"grace_sec": text})


def test_a_form_has_its_fields_in_order_and_those_of_a_page_mean_something_else():
    shown = list_form(("every_sec", "url"), needed=("url",), is_page=True)
    assert [(each.name, each.is_needed) for each in shown] == [("every_sec", False), ("url", True)]
    assert shown[0].label != list_form(("every_sec",))[0].label
