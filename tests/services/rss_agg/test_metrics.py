"""Holds docs/services/rss_agg.md, and the table of metrics, to what rss_agg does."""

from marketswarm.truth import parse_truth
from services.rss_agg.metrics import RssMetrics
from services.rss_agg.settings import ReadSettings, RssSettings
from support.pages import table

PAGE = "docs/services/rss_agg.md"


def test_the_settings_on_the_page_are_those_there_are_with_their_defaults():
    shown = {row[0].strip("`"): row[1] for row in table(PAGE, "Settings")}
    defaults = {name: field.default for name, field in ReadSettings.model_fields.items()}
    assert shown == {name: f"{default:g}" if isinstance(default, float) else str(default or "none")
                     for name, default in defaults.items()}  # fmt: skip


def test_the_fields_of_an_item_on_the_page_are_those_it_has():
    from services.rss_agg.parse import FeedEntry, make_items
    from services.rss_agg.settings import Feed

    (item,) = make_items(Feed(url="http://a", name="a"), "s", [FeedEntry("1", "", "", "", "")])
    shown = [name.strip("`") for row in table(PAGE, "Items") for name in row[0].split(", ")]
    assert sorted(shown) == sorted([*item.fields, "seen", "version", "updates"])


def test_the_metrics_on_their_page_are_those_it_tells():
    told = [
        (f"`{one.name}`", one.kind, ", ".join(f"`{label}`" for label in one.labels) or "-")
        for one in RssMetrics().collect()
    ]
    assert sorted(tuple(row[:3]) for row in table("docs/metrics.md", "rss_agg")) == sorted(told)


def test_the_section_on_the_page_is_one():
    from support.pages import ROOT, blocks

    (document,) = blocks(ROOT / PAGE, "json")
    service = parse_truth(document.encode()).truth.services["rss_agg"]
    section = RssSettings.model_validate({"endpoints": service.endpoints, "settings": service.settings})
    assert [feed.is_secret for feed in section.endpoints] == [False, False, True]
