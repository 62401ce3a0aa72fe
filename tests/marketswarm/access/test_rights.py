"""The table of rights names what there is, and what each user may write is written out once more here."""

import inspect
import json
import re
from fnmatch import fnmatchcase
from pathlib import Path

import pytest

from marketswarm import keys as contract
from marketswarm.access import rights
from marketswarm.access.users import BOOTSTRAP, JOIN, OPERATOR, build_users
from marketswarm.operator.remedies import REQUEST_KEYS
from marketswarm.truth import parse_truth

ROOT = Path(__file__).parents[3]
SHIPPED = parse_truth((ROOT / "truth.json").read_bytes()).truth
STATION = parse_truth((ROOT / "examples/market.json").read_bytes()).truth
BUSES = ("system-redis", "market-redis")

TRUTH = {"truth:doc", "truth:history", "truth:meta"}
LAST = {"beat:*", "run:*"}
DRY = {f"medic:dry:{what}" for what in ("state", "incidents", "approvals", "evidence")}
OF_MEDIC = {f"medic:{what}" for what in ("state", "incidents", "approvals", "evidence")}
OF_MONITOR = ("canary", "heard", "jobs", "lease", "roster", "silence")
WRITTEN = {
    "operator": TRUTH
    | LAST
    | {"notifier:asks", "notifier:silences", "board:audit", "board:checks", "board:pings", "board:tokens"}
    | {"medic:approvals", "medic:state", "pings:*", "sources:refresh:request"},
    "bootstrap": TRUTH,
    "healer": {f"healer:{what}" for what in OF_MONITOR} | {"healer:alerts:log", "healer:relayed", "health:*"},
    "sentinel": {f"sentinel:{what}" for what in OF_MONITOR}
    | {"healer:alerts:log", "health:healer", "health:market-redis", "health:system-redis"}
    | {"notifier:told:*", "sentinel:direct"},
    "notifier": {f"notifier:{what}" for what in ("answers:*", "dead", "lease", "silences", "state")}
    | {"notifier:told:*"},
    "mesh": {"mesh:events", "mesh:flow", "mesh:topology"},
    "board": TRUTH
    | LAST
    | {f"board:{what}" for what in ("announcements", "audit", "checks", "links:*", "pings", "reconnect")}
    | {"board:history", "board:history:hours:*", "board:history:spans"}
    | {"medic:approvals", "notifier:asks", "notifier:silences", "pings:*", "sources:refresh:request"},
    "medic": OF_MEDIC
    | DRY
    | {"medic:alerts", "medic:alerts:outages", "medic:dry:alerts", "medic:dry:alerts:outages"}
    | {"lease-epoch:medic", "lease:medic", "own-lease-epoch:medic:*", "own-lease:medic:*"},
    "massive": {"massive:alerts", "massive:roster"},
    "rss_agg": set(),
    "vexy_ai": set(),
}
"""By user: the patterns of the keys on system-redis that the shipped truth lets it write, without those that
each service has of its own, and what lies beside the keys of its access points (`<key>:…`)."""
WORK = {"lease:*", "lease-epoch:*"}


def list_written(user):
    """Return the patterns of the keys that a user may write, but by functions and as a consumer group."""
    others = ("fcall", "xreadgroup")
    grants = [grant for grant in user.grants if grant.mode != "R" and not grant.commands.startswith(others)]
    return {key for grant in grants for key in grant.keys}


def list_own(svc):
    own = {f"{kind}:{svc}" for kind in ("beat", "run", "pings", "members")}
    return own | {f"members:{svc}:*", f"own-lease:{svc}:*", f"own-lease-epoch:{svc}:*"}


def test_each_user_may_write_these_keys_and_no_other():
    found = {user.name: list_written(user) for user in build_users(SHIPPED, "system-redis")}
    assert found.pop("default") == set()
    workers = SHIPPED.services.keys() - set(rights.ROLES)
    assert {svc for svc in workers if not found[svc] >= WORK} == set()
    points = {svc: {f"{key}:*" for key in keys} for svc, keys in WRITTEN.items() if svc in (*workers, "mesh")}
    for name, keys in WRITTEN.items():
        own = list_own(name) if name in SHIPPED.services else set()
        beside = own | points.get(name, set()) | (WORK if name in workers else set())
        assert found[name] - beside == keys - beside, name
        assert keys <= found[name], name
    assert found.keys() == WRITTEN.keys()


@pytest.mark.parametrize("bus", BUSES)
def test_a_service_without_access_points_may_write_what_is_its_own_and_the_leases_of_all(bus):
    document = parse_truth(json.dumps({"services": {"shop": {}, "healer": {}}}).encode()).truth
    (user,) = (user for user in build_users(document, bus) if user.name == "shop")
    beats = {"beat:shop", "run:shop", "pings:shop"} if bus == "system-redis" else set()
    assert list_written(user) == (list_own("shop") - {"beat:shop", "run:shop", "pings:shop"}) | beats | WORK
    channels = {
        name for grant in user.grants for name in grant.channels if "publish" in grant.commands.split()
    }
    beat = {"shop:heartbeat"} if bus == "system-redis" else set()
    assert channels == beat | {"lease:*", "members:shop", "members:shop:*", "own-lease:shop:*"}


@pytest.mark.parametrize("document", [SHIPPED, STATION], ids=["shipped", "station"])
def test_what_one_worker_writes_no_other_worker_may_write_and_no_role_but_board_and_operator(document):
    for bus in BUSES:
        users = {user.name: list_written(user) - WORK for user in build_users(document, bus)}
        workers = document.services.keys() - set(rights.ROLES)
        for svc in workers:
            for other in users.keys() - {svc, "board", "operator"}:
                shared = {one for one in users[svc] for two in users[other] if fnmatchcase(one, two)}
                assert shared - {"healer:relayed"} == set(), (svc, other)


OWN = {"{svc}:reconnect", "{svc}:reconnect:request"}
"""Names that `keys.py` has for each service by itself."""


def list_contract_keys():
    """Return all that `keys.py` names, with `*` for what a function is given."""
    found = {value for value in vars(contract).values() if isinstance(value, str)}
    for make in dict(inspect.getmembers(contract, inspect.isfunction)).values():
        count = len(inspect.signature(make).parameters)
        owners = ("healer", "sentinel", "medic:state", "{svc}", "medic", "*")
        found |= {make(owner, *["*"] * (count - 1)) for owner in owners}
        found |= {make(owner, contract.MEDIC_LEASE) for owner in owners if make is contract.own_lease_key}
    return found | {contract.dry_run_key(key) for key in found if key.startswith("medic:")}


def test_each_name_of_the_table_is_one_of_the_contract_or_stands_for_some():
    known = list_contract_keys() | {"members:{svc}", "{svc}:*"}  # the last: keys of sources and bars
    rows = [line.split(" | ") for line in rights.TABLE.splitlines() if line and not line.startswith("#")]
    names = {name for _, _, column, *_ in rows for name in column.split()[1:]}
    words = {word for name in names for word in re.findall(r"\{([^}]*)\}", name)}
    assert {name for name in names - known if not re.search(r"\{(?!svc\})", name)} <= OWN
    assert {word.partition("/")[2].rstrip("*") for word in words if "/" in word} <= known
    assert {word for word in words if "/" not in word} == rights.WORDS.keys()


@pytest.mark.parametrize("remedy", REQUEST_KEYS)
def test_the_medic_may_write_each_request_that_a_ladder_names_and_the_service_its_report(remedy):
    for svc, (report, request) in REQUEST_KEYS[remedy].items():
        settings = {"targets": {svc: {"ladder": [remedy]}}}
        document = {"services": {"medic": {"settings": settings}, svc: {}}}
        users = build_users(parse_truth(json.dumps(document).encode()).truth, "system-redis")
        writers = {
            key: {user.name for user in users if key in list_written(user)} for key in (report, request)
        }
        assert writers == {report: {svc}, request: {"medic"}}


def test_each_user_of_the_table_is_a_role_a_service_of_ours_or_a_person():
    users = set().union(*(right.users for right in rights.RIGHTS))
    people = {OPERATOR, BOOTSTRAP, JOIN}
    workers = {"massive", "sources", "bars", "archive", "signals"}
    assert users == people | workers | set(rights.ROLES) | {rights.ANY, rights.WORKER, rights.JOINED}


@pytest.mark.parametrize(
    "row",
    [
        "medic | hset | medic:state",
        "medic | hset | W {stat} ",
        "medic | hset | W medic:state | sometimes",
        "medic | hset | W medic:state | sources+pause",
        "medic | hset",
    ],
)
def test_a_row_with_a_word_that_nobody_knows_is_refused(row):
    with pytest.raises((KeyError, ValueError)):
        list(rights.parse_rights(row))
