"""`python -m bootstrap.access` beside real servers that read what it writes."""

import stat
from pathlib import Path

import orjson
import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from bootstrap.access import BROUGHT, require_published_address
from marketswarm.bus import get_url_variable
from support.rig import Proc, Server, free_port
from support.scenes.seeding import truth
from support.waiting import PATIENT_SEC

pytestmark = pytest.mark.live

BUSES = ("system-redis", "market-redis")
SECRET = stat.S_IRUSR | stat.S_IWUSR


class Scene:
    """A folder for ACCESS_DIR, a truth, and places for two servers that read their users from it."""

    def __init__(self, folder: Path):
        self.folder, self.dir, self.truth = folder, folder / "access", folder / "truth.json"
        self.truth.write_bytes(truth("prices"))
        self.ports = {bus: free_port() for bus in BUSES}

    def run(self, code: int = 0, **more: str) -> Proc:
        env = {get_url_variable(bus): f"redis://127.0.0.1:{port}" for bus, port in self.ports.items()}
        env |= {"ACCESS_DIR": str(self.dir), "TRUTH_PATH": str(self.truth), **more}
        with Proc("bootstrap.access", env, self.folder) as proc:
            assert proc.wait(20) == code, str(proc)
        assert "Traceback" not in proc.text()
        return proc

    def server(self, bus: str) -> Server:
        acl = str(self.dir / "acl" / bus / "users.acl")
        return Server(self.folder / bus, self.ports[bus], aclfile=acl)

    def url(self, user: str, bus: str = "system-redis") -> str:
        return (self.dir / "urls" / user / bus).read_text(encoding="utf-8").strip()

    def files(self) -> dict[str, bytes]:
        return {str(path): path.read_bytes() for path in self.dir.rglob("*") if path.is_file()}


@pytest.fixture
def scene(tmp_path):
    return Scene(tmp_path)


def may(url: str, *words: str) -> bool:
    """Whether a server lets that user do that. Raises when it does not know the user."""
    with redis.Redis.from_url(url, socket_timeout=PATIENT_SEC, retry=Retry(NoBackoff(), 0)) as client:
        try:
            client.execute_command(*words)
        except redis.exceptions.NoPermissionError:
            return False
        return True


@pytest.mark.needs("openssl")
def test_a_fleet_that_is_published_has_a_certificate_and_a_user_for_other_machines(scene):
    for address, why in (
        ("0.0.0.0", "0.0.0.0 means every network of this machine"),  # noqa: S104 - which is refused
        ("::", ":: means every network of this machine"),
        ("::ffff:127.0.0.1", "is this machine alone"),
        ("fe80::1%eth0", "fe80::1%eth0 is not an address for a server"),
    ):
        said = scene.run(2, MARKETSWARM_PUBLISH=address).text()
        assert "MARKETSWARM_PUBLISH: " in said
        assert why in said
    for wrong in ("[]", "[fd00::9", "[[fd00::9]]", "board.example"):
        [end] = scene.run(2, MARKETSWARM_PUBLISH=wrong).logs("program.exit")
        assert end["message"] == f"MARKETSWARM_PUBLISH: {wrong!r} is not an address"
    assert require_published_address("[fd00::9]") == require_published_address("fd00::9") == "fd00::9"
    assert scene.files() == {}
    [published] = scene.run(MARKETSWARM_PUBLISH="192.0.2.10").logs("access.published")
    assert (published["address"], len(published["fingerprint"])) == ("192.0.2.10", 64)
    users = (scene.dir / "acl/system-redis/users.acl").read_text(encoding="utf-8")
    assert "nopass" not in users
    assert "user join " in users
    assert "BEGIN PRIVATE KEY" in (scene.dir / "bus-tls/tls.pem").read_text(encoding="ascii")
    before = scene.files()
    [again] = scene.run(MARKETSWARM_PUBLISH="192.0.2.10").logs("access.published")
    assert again["fingerprint"] == published["fingerprint"]
    assert scene.files() == before


def test_each_user_has_its_own_password_and_no_other_user_of_the_host_can_read_it(scene):
    said = scene.run()
    users = {"prices", "bootstrap", "operator"}
    assert set(said.logs("access.written")[0]["new_passwords"]) == users
    assert {path.name for path in (scene.dir / "urls").iterdir()} == users | {*BROUGHT}
    assert len({scene.url(user) for user in users}) == 3
    for path in [*(scene.dir / "urls").glob("*/*"), *(scene.dir / "secrets").iterdir()]:
        assert stat.S_IMODE(path.stat().st_mode) == SECRET, path
    passwords = [path.read_text().strip() for path in (scene.dir / "secrets").iterdir()]
    acls = [path.read_text() for path in (scene.dir / "acl").rglob("users.acl")]
    assert len(acls) == 2
    assert not any(password in text for password in passwords for text in [*acls, said.text()])


def test_what_compose_starts_along_has_a_folder_to_mount_and_no_password_unless_the_truth_names_it(scene):
    scene.truth.write_bytes(truth("prices", "notifier"))
    scene.run()
    found = {each: sorted(file.name for file in (scene.dir / "urls" / each).iterdir()) for each in BROUGHT}
    assert found == {"notifier": sorted(BUSES), "board": [], "medic": []}


def test_a_second_run_changes_nothing_and_cuts_nobody_off(scene):
    scene.run()
    with scene.server("system-redis"):
        before = scene.files()
        once = Retry(NoBackoff(), 0)  # who was cut off is not connected again
        with redis.Redis.from_url(scene.url("prices"), single_connection_client=True, retry=once) as client:
            client.ping()
            scene.run()
            assert client.ping()
        assert scene.files() == before


def test_a_server_that_runs_lets_a_new_service_in_and_a_dropped_one_no_more(scene):
    scene.run()
    with scene.server("system-redis"):
        old = scene.url("prices")
        assert may(old, "PING")
        scene.truth.write_bytes(truth("news"))
        said = scene.run()
        assert [line["bus"] for line in said.logs("access.renewed")] == ["system-redis"]
        assert may(scene.url("news"), "PUBLISH", "news:heartbeat", "x")
        assert not may(scene.url("news"), "PUBLISH", "prices:heartbeat", "x")
        with pytest.raises(redis.exceptions.AuthenticationError):
            may(old, "PING")


def test_a_server_that_was_away_is_not_told_and_reads_the_users_at_its_start(scene):
    scene.run()
    scene.truth.write_bytes(truth("news"))
    said = scene.run()
    assert not said.logs("access.renewed")
    with scene.server("market-redis"):
        assert may(scene.url("news", "market-redis"), "PING")


def test_a_server_that_runs_with_other_passwords_is_named_and_so_is_the_remedy(scene):
    scene.run()
    with scene.server("system-redis"):
        (scene.dir / "secrets" / "operator").unlink()
        said = scene.run(code=2)
        message = said.logs("program.exit")[0]["message"]
        assert "system-redis runs with other passwords" in message
        assert "restart" in message


def test_a_password_that_is_lost_is_made_anew(scene):
    scene.run()
    with scene.server("system-redis"):
        old = scene.url("prices")
        (scene.dir / "secrets" / "prices").unlink()
        assert scene.run().logs("access.written")[0]["new_passwords"] == ["prices"]
        assert scene.url("prices") != old
        assert may(scene.url("prices"), "PING")
        with pytest.raises(redis.exceptions.AuthenticationError):
            may(old, "PING")


def test_with_a_broken_truth_users_stay_so_that_bootstrap_can_say_what_is_wrong(scene):
    scene.run()
    before = scene.files()
    scene.truth.write_bytes(truth(prices=-1))
    assert scene.run().logs("access.truth_unusable")[0]["mistakes"] == 1
    assert scene.files() == before


def test_with_a_broken_truth_at_the_very_first_the_buses_can_start_all_the_same(scene):
    scene.truth.write_bytes(b"{")
    scene.run()
    with scene.server("system-redis"):
        assert may(scene.url("bootstrap"), "GET", "truth:doc")
        assert not (scene.dir / "urls" / "prices").exists()


def test_what_can_not_be_read_or_written_is_named_with_its_variable(scene):
    scene.truth.unlink()
    assert "TRUTH_PATH" in scene.run(code=2).logs("program.exit")[0]["message"]
    scene.truth.write_bytes(truth("prices"))
    scene.dir.write_text("no folder")
    assert "ACCESS_DIR" in scene.run(code=2).logs("program.exit")[0]["message"]


def test_who_stores_and_who_reads_the_archive_have_roles_of_their_own_and_nobody_else_its_url(scene):
    document = orjson.loads(truth("archive", "board", "prices", "signals"))
    document["services"]["signals"]["endpoints"] = [
        {"voter": name, "rule": name, "weight": 1} for name in ("trend", "volume")
    ]
    scene.truth.write_bytes(orjson.dumps(document))
    scene.run()
    roles = {
        "archive": ("marketswarm", "password"),
        "board": ("marketswarm_reader", "reader"),
        "signals": ("marketswarm_signals", "signals"),
    }
    passwords = {}
    for svc, (role, name) in roles.items():
        file = scene.dir / "database" / name
        passwords[svc] = file.read_text(encoding="utf-8").strip()
        assert len(passwords[svc]) >= 32
        assert scene.url(svc, "database") == f"postgresql://{role}:{passwords[svc]}@postgres:5432/marketswarm"
        for secret in (file, scene.dir / "urls" / svc / "database"):
            assert stat.S_IMODE(secret.stat().st_mode) == SECRET
        of_server = scene.dir / "acl" / "postgres" / name
        # the server is another user, and is given a verifier
        assert stat.S_IMODE(of_server.stat().st_mode) & stat.S_IROTH
        assert of_server.read_text(encoding="utf-8").startswith("SCRAM-SHA-256$4096:")
        assert passwords[svc] not in of_server.read_text(encoding="utf-8")
    assert len(set(passwords.values())) == len(roles)
    assert not (scene.dir / "urls" / "prices" / "database").exists()
    before = scene.files()
    scene.run()
    assert scene.files() == before


def test_a_fleet_without_an_archive_has_no_database(scene):
    scene.run()
    assert not (scene.dir / "database").exists()
    assert not (scene.dir / "acl" / "postgres").exists()


def test_the_database_s_files_alone_are_those_that_access_writes(scene):
    scene.truth.write_bytes(truth("archive", "board", "prices"))
    scene.run()
    made = [Path(f"urls/{svc}/database") for svc in ("archive", "board")]
    made += [Path(f"acl/postgres/{name}") for name in ("password", "reader", "signals")]
    before = scene.files()
    for path in made:
        (scene.dir / path).unlink()
    env = {"ACCESS_DIR": str(scene.dir), "TRUTH_PATH": str(scene.truth)}
    with Proc("bootstrap.database", env, scene.folder) as proc:
        assert proc.wait(20) == 0, str(proc)
    assert scene.files() == before
