import contextlib

import pytest

from services.rss_agg.reading import Failed, parsed

FEED = b"""<?xml version="1.0"?><rss version="2.0"><channel><item><guid>1</guid></item></channel></rss>"""


def test_a_feed_is_its_entries():
    assert [entry["id"] for entry in parsed(FEED, "text/xml")] == ["1"]


def test_a_feed_without_entries_is_a_feed():
    assert parsed(FEED.replace(b"<item><guid>1</guid></item>", b""), "") == []


def test_a_document_that_names_a_file_is_not_that_file(tmp_path):
    (tmp_path / "feed.xml").write_bytes(FEED)
    with pytest.raises(Failed, match="not_a_feed"):
        parsed(str(tmp_path / "feed.xml").encode(), "text/xml")


@pytest.mark.parametrize(
    "body", [b"", b"\x00", b"<html></html>", b"{}", b"<?xml version='1.0'?><rss", b"\xff\xfe<"]
)
@pytest.mark.parametrize("kind", ["", "text/xml; charset=nonsense", "\x00", "application/json"])
def test_what_is_no_feed_is_a_failure_or_empty_and_never_a_crash(body, kind):
    with contextlib.suppress(Failed):
        assert parsed(body, kind) == []
