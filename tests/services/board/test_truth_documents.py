import orjson

from services.board.truth_documents import TruthText, diff_documents, hide_secrets, parse_document


def test_passwords_are_hidden_and_references_stay():
    found = hide_secrets(
        {
            "url": "redis://user:pw@host:6379",
            "smtp_password": "pw",
            "token": "env:TOKEN",
            "list": [{"apiKey": "x"}, "http://a:b@c/"],
            "tokens": 3,
        }
    )
    assert found == {
        "url": "redis://host:6379",
        "smtp_password": "…",
        "token": "env:TOKEN",
        "list": [{"apiKey": "…"}, "http://c/"],
        "tokens": 3,
    }


def test_a_document_is_indented_text_with_a_section_for_each_service():
    document = parse_document(orjson.dumps({"services": {"a": {"x": "\u202e"}}}))
    assert document.section("a") == '{\n  "x": "\\u202e"\n}'
    assert document.section("b") == ""


def test_what_is_no_document_is_said_so():
    assert parse_document(b"{").text == "The document is not JSON."
    assert parse_document(b"[]").section("a") == ""
    assert parse_document(b'{"services":3}').section("a") == ""


def test_a_document_that_is_too_long_is_not_shown():
    assert "too long" in parse_document(orjson.dumps({"a": "x" * 1_100_000})).text


def test_the_difference_of_two_documents_has_what_changed_and_lines_around_it():
    older, newer = TruthText('{\n  "a": 1\n}'), TruthText('{\n  "a": 2\n}')
    assert [(line.mark, line.text) for line in diff_documents(older, newer)][1:] == [
        (" ", "{"),
        ("-", '  "a": 1'),
        ("+", '  "a": 2'),
        (" ", "}"),
    ]
    assert diff_documents(older, older) == ()
