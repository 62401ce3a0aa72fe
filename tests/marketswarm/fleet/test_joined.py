import stat
from dataclasses import asdict

import orjson
import pytest
from redis.connection import parse_url

from marketswarm.bus import Bus
from marketswarm.fleet.joined import (
    JoinedFleet,
    find_joined_certificate,
    read_joined,
    read_joined_buses,
    store_joined,
)

FLEET = JoinedFleet("192.0.2.10", 6379, "a" * 64, "join", "p@ss/word?#", ("system-redis", "market-redis"))


def test_what_is_stored_is_read_again_and_is_its_owner_s_alone(tmp_path):
    folder = tmp_path / "a folder @home"
    store_joined(folder, FLEET)
    assert read_joined(folder) == FLEET
    assert stat.S_IMODE((folder / "joined.json").stat().st_mode) == 0o600
    assert "p@ss" not in repr(FLEET)


def test_each_bus_has_the_next_port_and_must_show_the_certificate(tmp_path):
    folder = tmp_path / "a folder @home"
    store_joined(folder, FLEET)
    for at, (name, url) in enumerate(read_joined_buses(folder).items()):
        assert name == FLEET.bus_names[at]
        assert Bus(name, url).where == f"192.0.2.10:{6379 + at}"
        found = parse_url(url)
        assert (found["username"], found["password"]) == ("join", FLEET.password)
        assert found["ssl_ca_certs"] == str(find_joined_certificate(folder, FLEET.fingerprint))
    assert "ssl_ca_certs" not in JoinedFleet("fleet.example", 6379, "", "join", "x").build_url(folder)


@pytest.mark.parametrize("changed", [{"port": "many"}, {"port": None}, {"bus_names": 3}, {"host": "a b"}])
def test_what_is_no_record_is_none(tmp_path, changed):
    (tmp_path / "joined.json").write_bytes(orjson.dumps({**asdict(FLEET), **changed}))
    assert read_joined(tmp_path) is None
    assert read_joined_buses(tmp_path) == {}


@pytest.mark.parametrize("raw", [b"", b"[]", b"{", b"1", b'{"host":"h"}'])
def test_what_is_no_object_is_none(tmp_path, raw):
    (tmp_path / "joined.json").write_bytes(raw)
    assert read_joined(tmp_path) is None
    assert read_joined_buses(tmp_path) == {}


def test_a_folder_that_others_may_write_to_is_not_believed(tmp_path):
    store_joined(tmp_path, FLEET)
    tmp_path.chmod(0o777)
    assert read_joined(tmp_path) is None
