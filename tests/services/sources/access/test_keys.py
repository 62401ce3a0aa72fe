"""Where the keys of sources come from."""

import pytest

from marketswarm.exit import Exit
from services.sources.access.keys import list_open, read_keys
from services.sources.catalog.files import shipped_catalog
from services.sources.catalog.request import ApiKey

CATALOG = shipped_catalog()
SECRETS = "APCA_API_SECRET_KEY"


def read(name, **environ):
    return read_keys([CATALOG[name]], environ)


def test_several_keys_are_separated_by_commas():
    assert read("fred", FRED_API_KEY="one, two,") == {"fred": (ApiKey("one"), ApiKey("two"))}
    assert read("fred", FRED_API_KEY="") == {}
    assert read_keys(CATALOG.values(), {}) == {}


def test_a_key_may_be_in_a_file(tmp_path):
    (tmp_path / "key").write_text("one\n", encoding="utf-8")
    assert read("fred", FRED_API_KEY_FILE=str(tmp_path / "key")) == {"fred": (ApiKey("one"),)}
    with pytest.raises(Exit, match="FRED_API_KEY_FILE: the file can't be read"):
        read("fred", FRED_API_KEY_FILE=str(tmp_path / "none"))


def test_a_source_may_be_asked_that_needs_no_key_or_has_one():
    sources = [CATALOG[name] for name in ("kraken", "fred", "coingecko", "alpaca")]
    assert not CATALOG["kraken"].auth.env
    assert CATALOG["coingecko"].auth.optional
    assert [each.name for each in list_open(sources, {"alpaca"})] == ["kraken", "coingecko", "alpaca"]


def test_each_secret_belongs_to_the_key_at_its_place():
    keys = {"APCA_API_KEY_ID": "one,two"}
    found = read("alpaca", **keys, **{SECRETS: "first,second"})
    assert found == {"alpaca": (ApiKey("one", "first"), ApiKey("two", "second"))}
    with pytest.raises(Exit) as raised:
        read("alpaca", **keys, **{SECRETS: "first"})
    assert raised.value.message == "APCA_API_SECRET_KEY: has 1 secrets for the 2 keys of APCA_API_KEY_ID"
    assert "first" not in raised.value.message
