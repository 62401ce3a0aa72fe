"""What the page for the public shows."""

from marketswarm.operator.announcements import AnnouncementEntry, AnnouncementState, fold_announcements
from marketswarm.status.service_rows import ServiceState
from services.board.public.pages import make_public_page
from services.board.settings import PublicSettings
from services.board.templates import TEMPLATES
from support.board_examples import AT, HOSTILE, make_small

PUBLIC = PublicSettings(title="Example Ltd", services=("rss_agg", "mesh"), tags=("market",))


def make_incident(**values):
    """Return an announcement."""
    usual = {"id": "a", "ts": AT, "title": "Slow", "text": "We look into it.", "author": "kim"}
    return fold_announcements([AnnouncementEntry(state=AnnouncementState.IDENTIFIED, **usual | values)])


def test_it_has_the_public_services_by_their_descriptions_and_no_more_of_them():
    page = make_public_page(make_small(), PUBLIC)
    assert [(one.name, str(one.state)) for one in page.services] == [
        ("Reads news feeds", "down"),
        ("mesh", "up"),
        ("prices", "down"),
        ("quotes", "unknown"),
    ]
    text = TEMPLATES.render(page)
    assert "vexy_ai" not in text
    assert "silent since" not in text
    assert "2 of 4 down" in text


def test_a_tag_has_a_page_of_its_own():
    page = make_public_page(make_small(), PUBLIC, tag="market")
    assert [one.svc for one in page.services] == ["prices", "quotes"]
    assert page.tags == ("market",)


def test_a_board_that_has_not_looked_lately_says_nothing_of_any_service():
    page = make_public_page(make_small(), PUBLIC, is_current=False)
    assert {one.state for one in page.services} == {ServiceState.UNKNOWN}
    assert "4 of 4 unknown" in TEMPLATES.render(page)


def test_announcements_are_shown_without_their_author():
    text = TEMPLATES.render(make_public_page(make_small(), PUBLIC, make_incident(author="kim@desk")))
    assert "We look into it." in text
    assert "kim@desk" not in text
    other = make_public_page(make_small(), PUBLIC, make_incident(tags=("other",)), "market")
    assert "We look into it." not in TEMPLATES.render(other)


def test_no_announcement_is_markup():
    for hostile in HOSTILE:
        text = TEMPLATES.render(
            make_public_page(make_small(), PUBLIC, make_incident(title=hostile, text=hostile))
        )
        assert "<script>window" not in text
        assert "<img" not in text
        assert "\x1b" not in text
