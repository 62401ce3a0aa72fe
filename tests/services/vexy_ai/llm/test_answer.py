import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.vexy_ai.llm.answer import SUMMARY_LIMIT, Unfit, harmless, summary_in


def completion(content):
    return orjson.dumps(
        {"id": "x", "choices": [{"index": 0, "message": {"role": "assistant", "content": content}}]}
    )


def said(summary):
    return completion(orjson.dumps({"summary": summary}).decode())


def test_a_summary_is_taken_bare_or_fenced():
    assert summary_in(said("Acme rose. It may rise more.")) == "Acme rose. It may rise more."
    fenced = '```json\n{"summary": "Acme rose.", "mood": "good"}\n```'
    assert summary_in(completion(fenced)) == "Acme rose."


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "garbage"),
        (b"<html>", "garbage"),
        (b"\xff\xfe", "garbage"),
        (b"[" * 5000, "garbage"),
        (b"[]", "schema"),
        (b"{}", "schema"),
        (b'{"choices": []}', "schema"),
        (b'{"choices": [{"message": {"content": null}}]}', "schema"),
        (b'{"choices": [{"text": "old"}]}', "schema"),
        (b'{"error": {"message": "no"}}', "schema"),
        (completion("Acme rose."), "schema"),
        (completion('{"summary": 5}'), "schema"),
        (completion('{"summary": ["Acme"]}'), "schema"),
        (completion('{"text": "Acme"}'), "schema"),
        (completion("x" * 20_001), "schema"),
        (said("x" * 5001), "schema"),
        (said("..."), "empty"),
        (said("https://evil.example/"), "empty"),
    ],
)
def test_what_is_no_summary_is_refused_in_a_word(body, reason):
    with pytest.raises(Unfit, match=f"^{reason}$"):
        summary_in(body)


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("One. Two! Three? Four.", "One. Two!"),
        ("Buy at https://evil.example/x?y now.", "Buy at now."),
        ("Go to www.evil.example or mailto:a@b.c please", "Go to or please"),
        ("[Click](javascript:alert(1)) **here**", "Click( here"),
        ("<script>alert(1)</script> <b>Bold</b> a < b", "alert(1) Bold a b"),
        ("a\x1b[31mred\x07\nnew\u202eline", "a 31mred new line"),
        ("値上げ。 株安。 円高。", "値上げ。 株安。"),
    ],
)
def test_what_comes_back_leads_nowhere_and_formats_nothing(text, left):
    assert harmless(text) == left


@given(st.text(max_size=2000))
def test_whatever_comes_back_it_is_one_short_line(text):
    found = harmless(text)
    assert len(found) <= SUMMARY_LIMIT
    assert found.isprintable()
    assert not set(found) & set("<>[]{}`*_|\\")
    assert "://" not in found or not found.partition("://")[0][-2:].isalpha()


@given(st.binary(max_size=300))
def test_whatever_is_answered_it_is_a_summary_or_unfit(body):
    with pytest.raises(Unfit):
        summary_in(body)
