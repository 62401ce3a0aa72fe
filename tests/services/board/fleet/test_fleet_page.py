import re
from dataclasses import replace
from importlib.resources import files

from hypothesis import given, settings
from hypothesis import strategies as st

from marketswarm.status.service_rows import ServiceState
from services.board.fleet.frame import Frame
from services.board.fleet.pages import (
    ALL_ROWS,
    MAX_ROWS,
    MAX_TURNED,
    NEAR_ROWS,
    FleetQuery,
    group_services,
    select_services,
    sort_services,
    write_turned,
)
from services.board.fleet.snapshot import Uptime, diff
from services.board.templates import TEMPLATES
from support.board_examples import make_large, make_service, make_small, make_snapshot


def select(snapshot, **query):
    return select_services(snapshot, FleetQuery(**query), Frame("Fleet", "/", snapshot, "0-0"))


def names(page):
    return [one.svc for one in page.rows if not isinstance(one, str)]


def find_turned(before, after):
    """Return the services whose rows are written when one fleet becomes the other."""
    text = write_turned(TEMPLATES, after, diff(before, after))
    return re.findall(r'<tr [^>]*data-svc="([^"]*)"', text)


def test_rows_are_written_of_services_that_have_another_mark_and_of_no_others():
    up = make_snapshot(*(make_service(svc) for svc in "abcd"))
    services = {"a": {"state": ServiceState.DOWN}, "b": {"detail": "8 feeds"}, "c": {"paused": True}}
    turned = make_snapshot(*(replace(one, **services.get(one.svc, {})) for one in up.services))
    assert find_turned(up, turned) == ["a", "c"]
    assert find_turned(turned, up) == ["a", "c"]
    assert find_turned(up, up) == []
    assert find_turned(make_snapshot(*up.services[1:]), up) == []  # a new one is brought by the page


def test_rows_of_more_services_than_fit_are_left_to_the_page():
    def make(state, count):
        return make_snapshot(
            *(make_service(f"s{n}", state if n < count else ServiceState.UP) for n in range(50))
        )

    up = make(ServiceState.UP, 0)
    assert len(find_turned(up, make(ServiceState.DOWN, MAX_TURNED))) == MAX_TURNED
    assert find_turned(up, make(ServiceState.DOWN, MAX_TURNED + 1)) == []


def titled(rows):
    """Return the rows, a service as its name in a tuple."""
    return [one if isinstance(one, str) else (one.svc,) for one in rows]


def test_without_a_query_the_worst_come_first_and_the_rest_in_the_order_of_the_truth():
    page = select(make_small())
    assert names(page) == [
        *("rss_agg", "vexy_ai", "nightly-backup", "quotes", "prices", "archive"),
        *("massive", "mesh", "healer", "sentinel", "notifier"),
    ]
    assert page.found == 11
    assert page.previous is page.following is None


def test_a_query_finds_by_name_description_tag_state_and_bus():
    fleet = make_small()
    assert names(select(fleet, text="NIGHT")) == ["nightly-backup"]
    assert names(select(fleet, text="news feed")) == ["rss_agg"]
    assert names(select(fleet, text="prob")) == ["massive"]
    assert names(select(fleet, tag="market")) == ["quotes", "prices"]
    assert names(select(fleet, tag="mark")) == []
    assert names(select(fleet, states=(ServiceState.FAILED, ServiceState.SILENT))) == [
        "nightly-backup",
        "prices",
    ]
    assert names(select(fleet, bus="market-redis")) == ["quotes", "prices", "archive"]


def test_rows_are_shown_in_pages_with_paths_to_the_neighbours():
    fleet = make_large(500)
    page = select(fleet, sort="name", start=100)
    assert names(page) == sorted(one.svc for one in fleet.services)[100:200]
    assert page.previous == "/?sort=name"
    assert page.following == "/?sort=name&start=200"
    assert select(fleet, start=400).following is None


def test_services_are_sorted_by_what_the_query_names():
    some = [
        make_service("b", restarts=1, last_beat_at=5.0, uptime={"24h": Uptime(0.5)}),
        make_service("a", restarts=9, last_beat_at=None, uptime={}),
        make_service("c", restarts=None, last_beat_at=1.0, uptime={"24h": Uptime(0.1)}),
    ]

    def order(sort):
        return "".join(one.svc for one in sort_services(some, FleetQuery(sort=sort)))

    assert [order(sort) for sort in ("name", "silence", "restarts", "uptime")] == ["abc", "acb", "abc", "cba"]


def test_groups_stand_at_the_place_of_their_first_service():
    some = [make_service("a", tags=("x", "y")), make_service("b", tags=()), make_service("c", tags=("x",))]
    assert titled(group_services(some, "tag")) == ["x", ("a",), ("c",), "without a tag", ("b",)]
    assert group_services(some, "bus")[0] == "system-redis"
    assert group_services(make_snapshot(*some).services, "state")[0] == "up"


def test_by_host_those_on_the_same_machines_are_together_and_those_on_none_have_a_heading():
    hosts = {"a": ("db1",), "b": ("db1", "web1"), "c": (), "d": ("db1",)}
    some = [make_service(svc, hosts=found) for svc, found in hosts.items()]
    assert titled(group_services(some, "host")) == [
        *("db1", ("a",), ("d",)),
        *("db1, web1", ("b",)),
        *("no known host", ("c",)),
    ]


def test_a_page_that_begins_within_a_group_repeats_its_heading():
    some = make_snapshot(*(make_service(svc, tags=(svc[0],)) for svc in ("a1", "a2", "b1")))
    page = select(some, group="tag", start=2, rows=2)
    assert titled(page.rows) == ["a", ("a2",), "b"]
    assert (page.first, page.total, page.first_service, page.last_service) == (1, 5, 1, 2)
    page = select(some, group="tag", start=3)
    assert (titled(page.rows), page.first) == (["b", ("b1",)], 3)


MANY = tuple(make_service(f"s{number}", tags=(f"t{number // 7}",)) for number in range(400))


@settings(max_examples=60)
@given(
    st.integers(0, len(MANY)),
    st.integers(0, 500),
    st.integers(NEAR_ROWS + 1, 200),
    st.sampled_from(["", "state", "tag"]),
)
def test_a_script_gets_all_rows_of_a_small_fleet_and_those_in_sight_of_a_large_one(count, near, rows, group):
    fleet = make_snapshot(*MANY[:count])
    whole = select(fleet, group=group, rows=MAX_ROWS)
    page = select(fleet, near=near, rows=rows, group=group)
    assert page.total == whole.total == len(whole.rows)
    assert page.is_part == (page.total > ALL_ROWS)
    if not page.is_part:
        assert page.rows == whole.rows
        return
    repeated = page.rows[0] != whole.rows[page.first]
    assert page.rows[repeated:] == whole.rows[page.first + repeated :][: len(page.rows) - repeated]
    last = min(near, page.total - 1)
    assert page.first <= last < page.first + len(page.rows)


def test_a_part_begins_as_far_above_the_sight_as_a_page_scrolls_until_its_script_asks_again():
    script = files("services.board").joinpath("static/fleet.js").read_text("utf-8")
    assert f"const AROUND = {NEAR_ROWS};" in script


def test_a_part_is_in_no_link():
    query = FleetQuery(sort="name", near=90, rows=120)
    assert query.url(group="host") == "/?sort=name&group=host"


def test_a_full_wall_shows_only_what_is_not_up_and_counts_the_others():
    page = select(make_large(1000), wall=True)
    assert (len(names(page)), page.found, page.others) == (7, 1000, 993)
    assert select(make_small(), wall=True).others == 0


def test_the_path_of_a_query_names_only_what_differs():
    query = FleetQuery(text="a&b", states=(ServiceState.DOWN, ServiceState.FAILED), wall=True)
    assert FleetQuery().url() == "/"
    assert query.url(text="") == "/?states=down%2Cfailed&wall=1"
    assert query.url(states=(), wall=False) == "/?text=a%26b"
