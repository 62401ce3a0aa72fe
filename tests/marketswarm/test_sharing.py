"""Keys shared out over members: all agree, and little moves when somebody comes or goes."""

import subprocess
import sys

from hypothesis import given, settings
from hypothesis import strategies as st

from marketswarm.sharing import owned, owners

KEYS = [f"https://feeds.example.org/{number}" for number in range(3000)]
NAMES = st.text(min_size=1, max_size=12)
FEW = settings(max_examples=40)


@FEW
@given(st.lists(NAMES, unique=True, max_size=20), st.lists(NAMES, min_size=1, max_size=8))
def test_every_key_has_one_owner_among_the_members_whoever_asks_and_in_whatever_order(keys, members):
    owner = owners(keys, members)
    assert list(owner) == keys
    assert set(owner.values()) <= set(members)
    assert owners(reversed(keys), [*reversed(members), *members]) == owner
    shares = [owned(keys, member, members) for member in dict.fromkeys(members)]
    assert sorted(key for share in shares for key in share) == sorted(keys)


@FEW
@given(st.lists(NAMES, unique=True, max_size=30), st.sets(NAMES, min_size=2, max_size=8), st.randoms())
def test_when_a_member_leaves_its_keys_alone_move(keys, members, chance):
    gone = chance.choice(sorted(members))
    before, after = owners(keys, members), owners(keys, members - {gone})
    assert {key for key in keys if before[key] != after[key]} == {k for k in keys if before[k] == gone}


@FEW
@given(st.lists(NAMES, unique=True, max_size=30), st.sets(NAMES, min_size=1, max_size=8), NAMES)
def test_who_comes_takes_keys_and_nobody_else_gains_any(keys, members, new):
    before, after = owners(keys, members), owners(keys, members | {new})
    assert all(after[key] in (before[key], new) for key in keys)


def test_members_have_about_as_many_keys_each():
    for count in (2, 3, 7):
        members = [f"{number:012x}" for number in range(count)]
        shares = [len(owned(KEYS, member, members)) for member in members]
        assert sum(shares) == len(KEYS)
        assert max(shares) / min(shares) < 1.25, shares


def test_the_order_of_the_keys_is_kept_and_a_repeat_stays_one():
    members = ["a", "b", "c"]
    mine = owned([*KEYS, KEYS[0]], owners(KEYS, members)[KEYS[0]], members)
    assert [key for key in KEYS if key in set(mine)] == mine[:-1]
    assert mine[-1] == mine[0] == KEYS[0]


def test_without_members_nothing_is_anybodys_and_a_stranger_has_nothing():
    assert owners(KEYS, []) == {}
    assert owned(KEYS, "a", []) == []
    assert owned(KEYS, "stranger", ["a", "b"]) == []


def test_the_shares_are_the_same_in_every_process_and_written_down_here():
    """A change of these would have two versions of a service disagree while one replaces the other."""
    members = ["3f9a1c", "b07e22", "e41d90"]
    known = {
        "a": "e41d90",
        "https://example.org/feed": "e41d90",
        "nightly": "3f9a1c",
        "ключ": "b07e22",
        "\ud800": "3f9a1c",
    }
    assert owners(known, members) == known
    asked = "import sys; from marketswarm.sharing import owners; print(owners(sys.argv[1:4], sys.argv[4:]))"
    said = subprocess.run(
        [sys.executable, "-c", asked, *list(known)[:3], *members],
        env={"PYTHONHASHSEED": "7"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert said.stdout.strip() == str({key: known[key] for key in list(known)[:3]})
