import asyncio
import contextlib
import stat
from pathlib import Path

import orjson
import pytest
from redis.connection import parse_url

from marketswarm.exit import Code, Exit
from marketswarm.fleet import access
from marketswarm.fleet.plan import make_plan
from marketswarm.tasks import end_tasks
from marketswarm.truth import parse_truth
from support.waiting import PATIENT_SEC


def truth(*services):
    return parse_truth(orjson.dumps({"services": {svc: {} for svc in services}})).truth


def plan(document, **known):
    return make_plan(document, known=known, modules={svc: svc for svc in document.services}, port=7000)


@pytest.fixture
def made(tmp_path):
    document = truth("a", "b")
    return access.prepare_access(plan(document), document, tmp_path), document, tmp_path


def test_each_user_comes_in_by_files_of_its_own(made):
    has_users, _, data = made
    environ = has_users.environ("a")
    assert environ == {
        "SYSTEM_REDIS_URL_FILE": str(data / "urls/a/system-redis"),
        "MARKET_REDIS_URL_FILE": str(data / "urls/a/market-redis"),
    }
    found = parse_url(Path(environ["MARKET_REDIS_URL_FILE"]).read_text().strip())
    assert (found["username"], found["host"], found["port"]) == ("a", "127.0.0.1", 7001)
    assert found["password"] == (data / "secrets/a").read_text().strip()
    assert parse_url(has_users.url("system-redis"))["username"] == "operator"
    assert has_users.url("another-redis") is None


def test_what_holds_a_password_is_its_owner_s_alone(made):
    _, _, data = made
    files = [path for path in data.rglob("*") if path.is_file()]
    assert len(files) == 4 + 4 * 2 + 2
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}
    for folder in ("secrets", "urls", "urls/a", "system-redis", "market-redis"):
        assert stat.S_IMODE((data / folder).stat().st_mode) == 0o700


def test_who_listens_for_other_machines_has_a_user_for_them_and_lets_nobody_in_without_a_password(tmp_path):
    document = truth("a", "healer")
    access.prepare_access(plan(document), document, tmp_path, joined=True)
    text = (tmp_path / "system-redis/users.acl").read_text(encoding="utf-8")
    lines = {line.split()[1]: line for line in text.splitlines()}
    assert "nopass" not in text
    assert "&a:heartbeat" in lines["join"]
    assert "healer:heartbeat" not in lines["join"]
    password = (tmp_path / "secrets/join").read_text()
    access.prepare_access(plan(document), document, tmp_path)  # the next start, without --listen
    assert (tmp_path / "secrets/join").read_text() == password
    assert "user join " in (tmp_path / "system-redis/users.acl").read_text(encoding="utf-8")


def test_passwords_stay_over_a_start(made):
    has_users, document, data = made
    before = has_users.url("system-redis", "b")
    assert access.prepare_access(plan(document), document, data).url("system-redis", "b") == before


async def test_a_cancellation_while_a_bus_loads_users_puts_the_files_back_for_the_next_call(made):
    """A file with users that the bus never loaded would look like no change."""
    _, _, data = made
    files = {path: path.read_text() for path in data.glob("*/users.acl")}
    asked = asyncio.Event()

    async def swallow(reader, writer):
        with contextlib.closing(writer):
            while await reader.read(4096):
                asked.set()

    async with await asyncio.start_server(swallow, "127.0.0.1") as silent:
        url = f"redis://127.0.0.1:{silent.sockets[0].getsockname()[1]}"
        operators = {path.parent.name: url for path in files}
        renewing = asyncio.create_task(access.renew_users(truth("a", "b", "c"), data, operators, keep=True))
        await asyncio.wait_for(asked.wait(), PATIENT_SEC)
        assert all("user c " in path.read_text() for path in files)
        await end_tasks(renewing)
    assert renewing.cancelled()
    assert {path: path.read_text() for path in files} == files


def test_another_s_server_is_left_alone(tmp_path):
    document = truth("a")
    has_users = access.prepare_access(plan(document, **{"system-redis": "redis://far:1"}), document, tmp_path)
    assert list(has_users.environ("a")) == ["MARKET_REDIS_URL_FILE"]
    assert not (tmp_path / "system-redis").exists()
    known = {"system-redis": "redis://far:1", "market-redis": "redis://far:2"}
    with pytest.raises(Exit, match="no server is started here") as ended:
        access.prepare_access(plan(document, **known), document, tmp_path)
    assert ended.value.code == Code.CONFIGURATION


def test_a_password_that_won_t_do_ends_it(tmp_path):
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets" / "a").write_text("short")
    with pytest.raises(Exit, match="secrets/a: a password is"):
        access.prepare_access(plan(truth("a")), truth("a"), tmp_path)


@pytest.mark.parametrize("how", ["a link", "open to others"])
def test_a_password_that_somebody_else_put_there_is_refused(tmp_path, how):
    (tmp_path / "secrets").mkdir()
    planted = tmp_path / "secrets" / "a"
    if how == "a link":
        (tmp_path / "known").write_text("a password that somebody else knows")
        planted.symlink_to(tmp_path / "known")
    else:
        planted.write_text("a password that somebody else knows")
        planted.chmod(0o666)
    with pytest.raises(PermissionError, match="is a link" if how == "a link" else "others may write"):
        access.prepare_access(plan(truth("a")), truth("a"), tmp_path)


def test_a_folder_of_passwords_that_others_may_write_to_is_refused(tmp_path):
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets").chmod(0o770)
    with pytest.raises(PermissionError, match="chmod go-w"):
        access.prepare_access(plan(truth("a")), truth("a"), tmp_path)
