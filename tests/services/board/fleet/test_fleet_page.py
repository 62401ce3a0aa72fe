from marketswarm.status.service_rows import ServiceState
from services.board.fleet.frame import Frame
from services.board.fleet.pages import FleetQuery, group_services, select_services, sort_services
from services.board.fleet.snapshot import Uptime
from support.board_examples import make_large, make_service, make_small, make_snapshot


def select(snapshot, **query):
    return select_services(snapshot, FleetQuery(**query), Frame("Fleet", "/", snapshot, "0-0"))


def names(page):
    return [one.svc for group in page.groups for one in group.services]


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
    found = [(group.name, [one.svc for one in group.services]) for group in group_services(some, "tag")]
    assert found == [("x", ["a", "c"]), ("without a tag", ["b"])]
    assert [group.name for group in group_services(some, "bus")] == ["system-redis"]
    assert [group.name for group in group_services(make_snapshot(*some).services, "state")] == ["up"]


def test_by_host_those_on_the_same_machines_are_together_and_those_on_none_have_a_heading():
    hosts = {"a": ("db1",), "b": ("db1", "web1"), "c": (), "d": ("db1",)}
    some = [make_service(svc, hosts=found) for svc, found in hosts.items()]
    found = [(group.name, [one.svc for one in group.services]) for group in group_services(some, "host")]
    assert found == [("db1", ["a", "d"]), ("db1, web1", ["b"]), ("no known host", ["c"])]


def test_the_path_of_a_query_names_only_what_differs():
    query = FleetQuery(text="a&b", states=(ServiceState.DOWN, ServiceState.FAILED), wall=True)
    assert FleetQuery().url() == "/"
    assert query.url(text="") == "/?states=down%2Cfailed&wall=1"
    assert query.url(states=(), wall=False) == "/?text=a%26b"
