"""What managed servers keep for themselves, the fleet does without.

That these rights are enough for a whole fleet is shown in test_acl_fleet.py.
"""

from pathlib import Path

import pytest

from marketswarm.access.users import build_users
from marketswarm.truth import parse_truth
from support.pages import ROOT
from support.rig import Server

OF_PEOPLE = {"default", "operator"}
SEEDING = frozenset({"restore", "acl|dryrun"})
# RESTORE puts one bus back as it was, when the other fails in the midst of a seeding. ACL DRYRUN asks whether
# the users of a new truth are there; who seeds does not wait for them where it may not ask (test_watchable).
# INFO says how full a bus is; where the medic may not ask, its two rules about that have no values.
DOES_WITHOUT = {"bootstrap": SEEDING, "board": SEEDING, "medic": frozenset({"info"})}


@pytest.fixture(scope="module")
def kept(tmp_path_factory) -> set[str]:
    with Server(Path(tmp_path_factory.mktemp("server"))) as server:
        return {word for kind in ("admin", "dangerous") for word in server.cmd("ACL", "CAT", kind)}


@pytest.mark.parametrize("bus", ["system-redis", "market-redis"])
def test_no_program_needs_a_command_that_is_for_the_owner_of_the_server(kept, bus):
    truth = parse_truth((ROOT / "truth.json").read_bytes()).truth
    assert {"config|set", "info", "keys", "role", "acl|setuser"} <= kept
    for user in build_users(truth, bus):
        needed = {word for grant in (user.root, *user.grants) for word in grant.commands.split()}
        if user.name not in OF_PEOPLE:
            assert "get" in needed
            assert needed & kept == DOES_WITHOUT.get(user.name, set()), user.name
