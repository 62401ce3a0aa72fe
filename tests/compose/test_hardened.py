"""What a container may: nothing that its part does not take, as nobody, and with no password but its own."""

import contextlib
import json
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from support.pages import section, shown
from support.rig.compose import AGENTS, BUSES, patiently

# what a process may do is tried, not read in compose.yaml: where it can write; which passwords are in files
# that its user can read, and in what the processes beside it were told
LOOKING = """
import contextlib, errno, json, os, pathlib, sys
passwords = json.load(sys.stdin)
written, found = {}, set()
for folder in ("/", "/app", "/venv", "/keys", "/tmp"):
    try:
        (pathlib.Path(folder) / "mark").write_text("x")
        written[folder] = "written"
    except OSError as error:
        written[folder] = errno.errorcode[error.errno]
for folder, folders, names in os.walk("/"):
    # /usr and /venv are the image's, which was built before there was a password
    apart = ("/sys", "/usr", "/venv", "/proc")
    folders[:] = [name for name in folders if os.path.join(folder, name) not in apart]
    for name in names:
        path = pathlib.Path(folder, name)
        try:
            text = path.read_text() if path.is_file() and path.stat().st_size < 100_000 else ""
        except (OSError, UnicodeDecodeError):
            continue
        found |= {user for user, password in passwords.items() if password in text}
environments = []
for path in pathlib.Path("/proc").glob("[0-9]*/environ"):
    with contextlib.suppress(OSError):  # of one that just starts or ends; it tells this user nothing
        environments.append(path.read_text())
told = {user for user, password in passwords.items() for text in environments if password in text}
status = "".join(pathlib.Path("/proc", one, "status").read_text() for one in ("1", "self"))
said = {"written": written, "read": sorted(found), "told": sorted(told)}
print(json.dumps({**said, "status": status, "beside": len(environments)}))
"""
# with its own password, what is another's: each refused by name, and what is its own not
SPOOFING = """
import json, os, redis
client = redis.Redis.from_url(open(os.environ["SYSTEM_REDIS_URL_FILE"]).read().strip())
said = {}
for words in json.loads(os.environ["TRIES"]):
    try:
        said[" ".join(words[:2])] = str(client.execute_command(*words))
    except redis.RedisError as error:
        said[" ".join(words[:2])] = type(error).__name__
print(json.dumps(said))
"""
CHECKING = """
import json, resource, subprocess, sys
def spent():
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
each = []
for _ in range(5):
    before = spent()
    subprocess.run(json.loads(sys.argv[1]), check=True)
    each.append(spent() - before)
print(min(each))
"""


def test_no_container_is_root_or_may_become_it_and_an_agent_writes_to_memory_and_knows_its_own_password(
    fleet,
):
    looking = dict.fromkeys(AGENTS, json.dumps(fleet.passwords))
    with ThreadPoolExecutor(4) as pool:
        said = pool.map(lambda svc: json.loads(fleet.inside(svc, LOOKING, feed=looking[svc])), AGENTS)
        for svc, found in zip(AGENTS, said, strict=True):
            assert find_more_rights(found["status"], "10001") == [], svc
            assert found["written"].pop("/tmp") == "written", svc  # noqa: S108 - the container's
            assert set(found["written"].values()) == {"EROFS"}, svc
            assert (found["read"], found["told"]) == ([svc], []), svc
            assert found["beside"] >= 2, svc
    for bus in BUSES:
        status = fleet.compose("exec", "-T", bus, "cat", "/proc/1/status", "/proc/self/status")
        assert find_more_rights(status, "999") == [], bus


def find_more_rights(status: str, user: str) -> list[str]:
    """Return what the processes of this status have more than the rights of a user who may nothing."""
    words = [line.split(":\t") for line in status.splitlines() if ":\t" in line]
    wanted = {"Uid": "\t".join([user] * 4), "NoNewPrivs": "1", "Seccomp": "2"}
    wanted |= dict.fromkeys(("CapEff", "CapPrm", "CapBnd"), "0" * 16)
    assert wanted.keys() <= {name for name, _ in words}
    return [f"{name}: {value}" for name, value in words if name in wanted and value != wanted[name]]


def test_nothing_may_take_all_memory_or_all_processes(fleet):
    for service in (*AGENTS, *BUSES):
        limits = fleet[service].said["HostConfig"]
        assert 0 < limits["Memory"] <= 2 << 30, service
        assert 0 < limits["PidsLimit"] <= 256, service


def test_what_listens_does_so_on_this_machine_alone(fleet):
    ports = {service: one.said["NetworkSettings"]["Ports"] for service, one in fleet.containers().items()}
    published = {service: given for service, given in ports.items() if any(given.values())}
    # without MARKETSWARM_PUBLISH the port for other machines is a random one, on which nothing listens
    for service, port in (*((bus, "6390/tcp") for bus in BUSES), ("board", "8443/tcp")):
        assert {each["HostIp"] for each in published[service].pop(port)} == {"127.0.0.1"}
    expected = {("6379/tcp", bus): fleet.ports[bus] for bus in BUSES} | {
        ("8080/tcp", "board"): fleet.board_port
    }
    assert published == {
        service: {inner: [{"HostIp": "127.0.0.1", "HostPort": str(port)}]}
        for (inner, service), port in expected.items()
    }


def test_no_password_is_in_what_the_engine_shows(fleet):
    shown = json.dumps([one.said for one in fleet.containers().values()])
    shown += fleet.run("docker", "history", "--no-trunc", "--format", "{{json .}}", fleet.image).stdout
    shown += fleet.run("docker", "image", "inspect", fleet.image).stdout
    shown += fleet.compose("logs", "--no-color") + fleet.compose("config")
    assert "rss_agg" in shown
    assert len(fleet.passwords) == len(AGENTS) + 2  # bootstrap's and the operator's
    assert [user for user, password in fleet.passwords.items() if password in shown] == []


def test_with_one_agents_password_nobody_can_speak_for_another(fleet):
    beat = json.dumps({"svc": "massive", "i": 1, "ts": 1762433458})
    alert = json.dumps({"type": "heartbeat_miss", "svc": "massive", "late_sec": 99.0, "timeout_sec": 30.0})
    refused = [
        ("PUBLISH", "massive:heartbeat", beat),
        ("SET", "beat:massive", beat),
        ("PUBLISH", "healer:alerts", alert),
        ("XADD", "healer:alerts:log", "*", "event", alert),
        ("XRANGE", "healer:alerts:log", "-", "+"),
        ("SET", "health:massive", alert),
        ("SET", "truth:doc", "{}"),
        ("CONFIG", "GET", "*"),
        ("ACL", "LIST"),
        ("FLUSHALL",),
    ]
    allowed = [("PING",), ("GET", "truth:doc")]
    told = fleet.told()
    code = SPOOFING.replace('os.environ["TRIES"]', repr(json.dumps([*refused, *allowed])))
    said = json.loads(fleet.inside("rss_agg", code))
    assert {" ".join(words[:2]): said[" ".join(words[:2])] for words in refused} == {
        " ".join(words[:2]): "NoPermissionError" for words in refused
    }
    assert said["PING"] == "True"
    assert '"services"' in said["GET truth:doc"]
    after = fleet.told()
    assert after[: len(told)] == told
    # that it restarted while a bus was away, in a test before, may be told a timeout later
    assert [event for event in after[len(told) :] if event["type"] != "heartbeat_gap"] == []


@pytest.mark.needs("redis-cli")
def test_a_bare_beat_is_refused_and_each_way_that_the_page_shows_instead_is_heard(fleet):
    """Of a service that beats anyway, so that none is missed."""
    page, heading = "docs/operating.md", "Where users are on"
    bare = next(line for line in section(page, heading).splitlines() if line.startswith("$ redis-cli"))

    def run(text):
        port = fleet.ports["system-redis"]
        return fleet.script(text.replace("my_svc", "vexy_ai").replace('"$url"', f'"${{url/6379/{port}}}"'))

    assert run(bare.removeprefix("$ ")).startswith("NOPERM")
    as_operator, url, as_itself = shown(page, heading).splitlines()[:3]
    with contextlib.closing(fleet.beats("vexy_ai")) as heard:
        for line in (as_operator, f"{url}\n{as_itself}"):
            before = sum(beat.get("boot") is None for _, beat in heard.seen)
            assert "NOPERM" not in run(line)
            patiently(
                lambda before=before: sum(beat.get("boot") is None for _, beat in heard.seen) > before, 10
            )


def test_a_health_check_costs_no_more_than_a_tenth_of_a_second(fleet):
    test = fleet["healer"].said["Config"]["Healthcheck"]["Test"]
    line = ["sh", "-c", test[1]] if test[0] == "CMD-SHELL" else test[1:]
    assert float(fleet.inside("healer", CHECKING, json.dumps(line)).splitlines()[-1]) <= 0.1


def test_a_browser_on_this_host_sees_the_board_without_a_token(fleet):
    """It comes from the gateway's address, to which compose.yaml opens the board."""
    page = httpx.get(f"http://127.0.0.1:{fleet.board_port}/")
    assert (page.status_code, "rss_agg" in page.text) == (200, True)
