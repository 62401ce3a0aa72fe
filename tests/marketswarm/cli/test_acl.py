"""`marketswarm acl`: what it writes, what it says, and how it ends."""

import json
import stat

import pytest

from marketswarm.cli.acl import acl
from marketswarm.exit import Code, Exit

TRUTH = {"services": {"prices": {}, "healer": {}}}


@pytest.fixture
def places(tmp_path, monkeypatch):
    for name in ("TRUTH_REDIS_KEY", "ALERT_CHANNEL"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "truth.json").write_text(json.dumps(TRUTH))
    return {"truth": tmp_path / "truth.json", "secrets": tmp_path / "secrets", "out": tmp_path / "redis"}


def files(places):
    return {path.parent.name: path.read_text() for path in places["out"].glob("*/users.acl")}


def test_a_file_a_bus_is_written_and_what_comes_next_is_said(places, capsys):
    acl(**places, make_secrets=True)
    said = capsys.readouterr().out
    written = files(places)
    assert sorted(written) == ["market-redis", "system-redis"]
    users = ["default", "operator", "bootstrap", "prices", "healer"]
    assert [line.split()[1] for line in written["system-redis"].splitlines()] == users
    assert f"{places['out'] / 'system-redis' / 'users.acl'}: 5 users" in said
    assert "4 new passwords" in said
    assert "ACL LOAD" in said
    assert "_URL_FILE" in said
    secrets = {path.name: path.read_text().strip() for path in places["secrets"].iterdir()}
    assert sorted(secrets) == sorted(set(users) - {"default"})
    assert not any(secret in text for secret in secrets.values() for text in (*written.values(), said))
    assert {stat.S_IMODE(path.stat().st_mode) for path in places["secrets"].iterdir()} == {0o600}


def test_once_more_changes_nothing_and_a_new_service_alone_gets_a_password(places, capsys):
    acl(**places, make_secrets=True)
    first = files(places)
    acl(**places)
    assert files(places) == first
    capsys.readouterr()
    places["truth"].write_text(json.dumps({"services": {**TRUTH["services"], "new": {}}}))
    with pytest.raises(Exit, match="no password for new: --make-secrets") as ended:
        acl(**places)
    assert ended.value.code == Code.CONFIGURATION
    assert files(places) == first
    acl(**places, make_secrets=True)
    assert "1 new password in" in capsys.readouterr().out
    assert all(text.startswith(first[bus][:20]) for bus, text in files(places).items())
    assert "user new " in files(places)["market-redis"]


def test_each_user_is_given_its_urls_where_its_buses_are(places, tmp_path, monkeypatch, capsys):
    monkeypatch.delenv("SYSTEM_REDIS_URL", raising=False)
    monkeypatch.setenv("MARKET_REDIS_URL", "rediss://market.example:6390/1?ssl_ca_certs=/run/tls/ca.pem")
    urls = tmp_path / "urls"
    acl(**places, urls=urls, make_secrets=True)
    assert f"{urls}/<user>/market-redis: as a user of market.example:6390" in capsys.readouterr().out
    assert sorted(path.name for path in urls.iterdir()) == ["bootstrap", "healer", "operator", "prices"]
    password = (places["secrets"] / "prices").read_text().strip()
    system, market = (urls / "prices" / bus for bus in ("system-redis", "market-redis"))
    assert system.read_text() == f"redis://prices:{password}@system-redis:6379\n"
    assert market.read_text() == (
        f"rediss://prices:{password}@market.example:6390/1?ssl_ca_certs=/run/tls/ca.pem\n"
    )
    assert {stat.S_IMODE(path.stat().st_mode) for path in urls.glob("*/*")} == {0o600}
    assert stat.S_IMODE(urls.stat().st_mode) == 0o700


@pytest.mark.parametrize(
    ("document", "why"),
    [
        ({"services": {"default": {}}}, r'services\.default: "default" is the name of a Redis user'),
        ({"services": {"a": {"heartbeat": {"interval_sec": -5}}}}, "services.a.heartbeat.interval_sec: -5"),
    ],
)
def test_a_truth_that_won_t_do_ends_it_with_2_and_nothing_is_written(places, document, why):
    places["truth"].write_text(json.dumps(document))
    with pytest.raises(Exit, match=why) as ended:
        acl(**places, make_secrets=True)
    assert ended.value.code == Code.CONFIGURATION
    assert not places["out"].exists()
    assert not places["secrets"].exists()


def test_a_place_that_can_t_be_written_ends_it_with_2(places, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(Exit, match="file") as ended:
        acl(places["truth"], places["secrets"], tmp_path / "file", make_secrets=True)
    assert ended.value.code == Code.CONFIGURATION


def test_where_the_environment_puts_the_truth_is_where_it_may_be_read(places, monkeypatch):
    monkeypatch.setenv("TRUTH_REDIS_KEY", "fleet:truth")
    acl(**places, make_secrets=True)
    assert "%R~fleet:truth" in files(places)["system-redis"]
    assert "truth:doc" not in files(places)["system-redis"]
