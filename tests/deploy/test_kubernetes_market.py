"""The market station on Kubernetes: overlays/market, its component and its fleet, as kubectl builds them.

What all fleets have in common is in the other files about manifests; here is what the market adds.
"""

import base64
import functools
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import kubernetes_validate
import pytest
import redis
import yaml

from bootstrap.database import format_verifier
from marketswarm.fleet.postgres import SETTINGS
from marketswarm.keys import CHECKED_BARS, PRELOAD_STATUS
from marketswarm.passwords import DATABASE_READER
from support.rig import Server, free_port
from support.rig import kubernetes as rig
from support.rig.kubernetes import COMPONENT, ROOT, Object, Peer, may, of_kind, plain, texts, title, workloads
from support.rig.pod_rules import broken

TRUTH = ROOT / "examples/market.json"
COMPOSE = yaml.safe_load((ROOT / "compose.market.yaml").read_text(encoding="utf-8"))["services"]
PART = rig.DEPLOY / "k8s/components/market"
AWAIT_GATE = PART / "await_gate.py"
NEW = {"sources", "bars", "archive"}
READERS = {"bars", "archive"}
USERS_OF_THE_DATABASE = {"archive", "board"}
PUBLIC = ["93.184.216.34", "2606:2800:220:1:248:1893:25c8:1946"]
INSIDE = ["10.0.0.1", "172.16.0.1", "192.168.1.1", "100.64.0.1", "169.254.169.254", "fd00::1", "fe80::1"]


def make(k8s: Path, truth: Path = TRUTH) -> None:
    """Run what docs/kubernetes.md has the user run, for the copy in `k8s`."""
    environ = {
        "PATH": os.environ["PATH"],
        "FLEET": str(k8s / "fleet/market"),
        "TRUTH_PATH": str(truth),
    }
    subprocess.run(["sh", "tools/kubernetes.sh"], cwd=ROOT, env=environ, check=True, capture_output=True)


def with_metrics(k8s: Path) -> Path:
    """Return an overlay that is the market's with the component `metrics`, such as a user would write."""
    folder = k8s / "overlays/market-metrics"
    folder.mkdir(exist_ok=True)
    text = "resources: [../market]\ncomponents: [../../components/metrics]\n"
    (folder / "kustomization.yaml").write_text(text, encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def k8s(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the k8s folder of a copy of deploy/, with a market station's fleet made ready."""
    rig.needed()
    copied = tmp_path_factory.mktemp("market") / "deploy"
    own = shutil.ignore_patterns("secrets", "urls", "acl", "database", "truth.json", "*.env")
    shutil.copytree(rig.DEPLOY, copied, ignore=own)
    make(copied / "k8s")
    return copied / "k8s"


@pytest.fixture(scope="module")
def objects(k8s: Path) -> list[Object]:
    return rig.built(k8s / "overlays/market")


@pytest.fixture(scope="module")
def pods(objects: list[Object]) -> dict[str, rig.Workload]:
    return {each.name: each for each in workloads(objects)}


@pytest.fixture(scope="module")
def secrets(objects: list[Object]) -> dict[str, dict[str, str]]:
    """What each Secret has, decoded, by the name without its hash."""
    return {
        plain(each["metadata"]["name"]): {
            key: base64.b64decode(value).decode() for key, value in each.get("data", {}).items()
        }
        for each in of_kind(objects, "Secret")
    }


def environ_of(container: dict[str, Any]) -> dict[str, str]:
    return {each["name"]: each["value"] for each in container.get("env", [])}


# --- what there is ---


def test_every_service_of_the_truth_runs_with_the_gate_and_a_database_and_nobody_else(pods):
    services = set(json.loads(TRUTH.read_bytes())["services"])
    assert {name for name, pod in pods.items() if pod.labels[COMPONENT] == "agent"} == services
    rest = {"system-redis", "market-redis", "postgres", "bootstrap", "gate"}
    assert set(pods) == services | rest


@pytest.mark.parametrize("version", ["1.29", "1.37"])
def test_the_api_server_would_take_every_object(objects, version, monkeypatch):
    reads = functools.cache(kubernetes_validate.utils.schema_contents)
    monkeypatch.setattr(kubernetes_validate.utils, "schema_contents", reads)
    for each in objects:
        kubernetes_validate.validate(each, version, strict=True)


def test_every_pod_keeps_every_rule_for_pods(pods):
    assert {name: broken(pod.pod) for name, pod in pods.items() if broken(pod.pod)} == {}


def test_all_is_in_one_namespace_and_each_selector_finds_its_own_pods(objects, pods):
    for each in objects:
        if each["kind"] not in {"Namespace", "PriorityClass"}:
            assert each["metadata"]["namespace"] == "marketswarm", title(each)
        assert each["metadata"]["labels"]["app.kubernetes.io/part-of"] == "marketswarm", title(each)
        if each["kind"] in {"NetworkPolicy", "PodDisruptionBudget"}:
            selector = each["spec"].get("podSelector", each["spec"].get("selector"))
            assert any(rig.selects(selector, pod.labels) for pod in pods.values()), title(each)
        if each["kind"] == "Service":
            selector = {"matchLabels": each["spec"]["selector"]}
            (name,) = (name for name, pod in pods.items() if rig.selects(selector, pod.labels))
            assert name == each["metadata"]["name"]
    for name, pod in pods.items():
        if selector := pod.whole["spec"].get("selector"):
            assert [other for other in pods if rig.selects(selector, pods[other].labels)] == [name]


def test_each_file_that_a_pod_is_given_is_there_and_none_is_made_for_nobody(objects, pods):
    made = {
        (each["kind"], each["metadata"]["name"]): each for each in of_kind(objects, "ConfigMap", "Secret")
    }
    used = set()
    for name, pod in pods.items():
        volumes = {each["name"] for each in pod.pod["volumes"]}
        containers = [pod.container, *pod.pod.get("initContainers", [])]
        mounted = {mount["name"] for each in containers for mount in each.get("volumeMounts", [])}
        assert volumes <= mounted, name
        for volume in pod.pod["volumes"]:
            if "configMap" in volume:
                used.add(("ConfigMap", volume["configMap"]["name"]))
            elif "secret" in volume:
                used.add(("Secret", volume["secret"]["secretName"]))
        used |= {("ConfigMap", each["configMapRef"]["name"]) for each in pod.container.get("envFrom", [])}
        for variable, path in environ_of(pod.container).items():
            if variable.endswith("_FILE"):
                folder, _, file = path.rpartition("/")
                data = made["Secret", pod.mounts[folder]["of"]["secret"]["secretName"]]["data"]
                assert file in data, f"{name}: {variable}"
    (gate,) = (name for kind, name in made if kind == "ConfigMap" and plain(name) == "gate")
    assert set(made) - used == {("ConfigMap", gate)}  # the Job takes its name from it
    assert used <= set(made)


def test_its_agents_are_as_all_agents_are():
    """Kustomize reads no file outside the folder of the component, so it has a copy."""
    base = rig.DEPLOY / "k8s/base/every-agent.yaml"
    assert (PART / "every-agent.yaml").read_bytes() == base.read_bytes()


def test_it_is_the_market_of_compose(pods):
    for name in {*NEW, "gate"}:
        assert pods[name].container["command"] == COMPOSE[name]["command"]
    for name in {*NEW, "board"}:
        said = re.fullmatch(r"\$\{\w+_MEM_LIMIT:-(\d+)m\}", COMPOSE[name]["mem_limit"])
        assert pods[name].container["resources"]["limits"]["memory"] == f"{said[1]}Mi", name
        said = {key: value for key, value in COMPOSE[name]["environment"].items() if value is not None}
        assert said.items() <= environ_of(pods[name].container).items(), name
    gate, sources = (pods[name].container for name in ("gate", "sources"))
    assert environ_of(gate) == environ_of(sources)
    assert gate["resources"]["limits"] == sources["resources"]["limits"]


def test_backups_are_on_a_claim_that_one_pod_at_a_time_mounts(objects, pods):
    archive = pods["archive"]
    volume = archive.mounts[environ_of(archive.container)["ARCHIVE_BACKUP_FOLDER"]]["of"]
    claims = {each["metadata"]["name"] for each in of_kind(objects, "PersistentVolumeClaim")}
    assert volume["persistentVolumeClaim"]["claimName"] in claims
    assert archive.whole["spec"]["strategy"] == {"type": "Recreate"}


def test_the_database_is_that_of_compose_and_is_set_as_that_of_marketswarm_up(pods):
    here, there = pods["postgres"], COMPOSE["postgres"]
    assert f"${{POSTGRES_IMAGE:-{here.container['image']}}}" == there["image"]
    assert str(here.pod["securityContext"]["runAsUser"]) == there["user"]
    ours = environ_of(here.container)
    assert ours.pop("PGDATA").startswith(there["environment"]["PGDATA"] + "/")  # not a volume's own folder
    assert ours == {key: value for key, value in there["environment"].items() if key != "PGDATA"}
    started = re.findall(r"^exec docker-entrypoint.sh (.+)$", there["command"][-1], re.MULTILINE)
    assert started == [" ".join(here.container["args"])]
    given = dict(word.split("=") for word in here.container["args"] if "=" in word)
    assert given.items() <= SETTINGS.items()
    assert here.container["readinessProbe"]["exec"]["command"] == there["healthcheck"]["test"][1:]
    data = here.mounts["/var/lib/postgresql/data"]["of"]["claim"]
    assert data["spec"]["accessModes"] == ["ReadWriteOnce"]
    writable = {path.partition(":")[0]: re.search(r"size=(\d+)m", path)[1] for path in there["tmpfs"]}
    writable["/dev/shm"] = there["shm_size"].removesuffix("m")  # noqa: S108 - the container's own
    memory = {
        path: mount["of"]["emptyDir"] for path, mount in here.mounts.items() if "emptyDir" in mount["of"]
    }
    assert {path: each["sizeLimit"] for path, each in memory.items()} == {
        path: f"{size}Mi" for path, size in writable.items()
    }


# --- who knows what ---


def test_each_program_is_given_its_own_password_and_the_gate_that_of_sources(k8s, pods, secrets):
    known = {path.name: path.read_text().strip() for path in (k8s / "fleet/market/secrets").iterdir()}
    for name, pod in pods.items():
        if "/keys" not in pod.mounts:
            continue
        data = secrets[plain(pod.mounts["/keys"]["of"]["secret"]["secretName"])]
        user = "sources" if name == "gate" else name
        for bus in ("system-redis", "market-redis"):
            url = urlsplit(data[bus].strip())
            assert (url.hostname, url.username, url.password) == (bus, user, known[user])
        assert ("database" in data) == (name in USERS_OF_THE_DATABASE)


def test_each_password_of_the_database_is_with_its_user_and_the_server_has_verifiers(k8s, objects, secrets):
    folder = k8s / "fleet/market/database"
    roles = {"archive-urls": ("marketswarm", "password"), "board-urls": (DATABASE_READER, "reader")}
    passwords = {name: (folder / name).read_text(encoding="utf-8").strip() for _, name in roles.values()}
    assert secrets["postgres-users"] == {
        name: f"{format_verifier(password)}\n" for name, password in passwords.items()
    }
    for holder, (role, name) in roles.items():
        password = passwords[name]
        url = f"postgresql://{role}:{password}@postgres:5432/marketswarm\n"
        assert [name for name, data in secrets.items() if data.get("database") == url] == [holder]
        holds = {name for name, data in secrets.items() if any(password in text for text in data.values())}
        assert holds == {holder}
        for each in objects:
            forms = (password, base64.b64encode(password.encode()).decode().rstrip("="))
            assert not [text for text in texts(each) if any(form in text for form in forms)], title(each)


def test_the_server_makes_the_role_of_readers_by_the_script_of_compose(objects, pods):
    (mounted,) = (each["of"] for path, each in pods["postgres"].mounts.items() if "initdb.d" in path)
    (script,) = (
        each["data"]
        for each in of_kind(objects, "ConfigMap")
        if each["metadata"]["name"] == mounted["configMap"]["name"]
    )
    (file,) = (
        each["source"]
        for each in COMPOSE["postgres"]["volumes"]
        if isinstance(each, dict) and "initdb.d" in each["target"]
    )
    assert script == {Path(file).name: (ROOT / file).read_text(encoding="utf-8")}


def test_the_keys_of_sources_are_with_who_asks_outside_alone(objects):
    given = {
        each.name: plain(each.mounts["/secrets"]["of"]["secret"]["secretName"])
        for each in workloads(objects)
        if "/secrets" in each.mounts
    }
    assert given == dict.fromkeys(("sources", "gate"), "sources") | dict.fromkeys(
        ("notifier", "sentinel"), "notifications"
    )


def test_what_is_made_for_it_is_kept_out_of_git(k8s):
    folder = rig.DEPLOY / "k8s/fleet/market"
    made = [
        path.relative_to(k8s / "fleet/market") for path in (k8s / "fleet/market").rglob("*") if path.is_file()
    ]
    assert len(made) > 20
    asked = ["git", "check-ignore", "--stdin", "--no-index"]
    paths = "\n".join(str(folder / each) for each in made)
    ended = subprocess.run(asked, cwd=ROOT, input=paths, capture_output=True, text=True, check=False)
    if ended.returncode == 128:
        pytest.skip(ended.stderr.strip())
    assert {str(folder / each) for each in made} - set(ended.stdout.splitlines()) == {
        str(folder / "kustomization.yaml")
    }


# --- who reaches whom ---


def test_the_database_answers_archive_and_board_and_nobody_else_reaches_anybody_new(objects, pods):
    policies = of_kind(objects, "NetworkPolicy")
    for name, source in pods.items():
        for other, target in pods.items():
            program = source.labels[COMPONENT] in {"agent", "bootstrap"}
            for port in (6379, 5432, 9100, 443):
                wanted = (port == 6379 and target.labels[COMPONENT] == "bus" and program) or (
                    port == 5432 and other == "postgres" and name in USERS_OF_THE_DATABASE
                )
                open_ = may(policies, Peer(source.labels), Peer(target.labels), port)
                assert open_ == wanted, f"{name} to {other}:{port}"
    database = Peer(pods["postgres"].labels)
    strangers = [Peer({"app": "x"}), Peer(pods["board"].labels, namespace="default"), Peer(address=PUBLIC[0])]
    assert not any(may(policies, each, database, 5432) for each in strangers)


def test_sources_and_the_gate_ask_outside_by_https_and_readers_and_the_database_do_not(objects, pods):
    policies = of_kind(objects, "NetworkPolicy")
    for name in (*NEW, "gate", "postgres", "board"):
        source = Peer(pods[name].labels)
        for address in PUBLIC:
            open_ = {
                port for port in (22, 80, 443, 5432) if may(policies, source, Peer(address=address), port)
            }
            assert open_ == ({443} if name in {"sources", "gate"} else set()), name
        assert not any(may(policies, source, Peer(address=each), 443) for each in INSIDE), name
        dns = Peer({"k8s-app": "kube-dns"}, namespace="kube-system")
        assert may(policies, source, dns, 53, "UDP") == (name != "postgres")


def test_with_the_component_of_metrics_they_are_scraped_as_all_agents_are(k8s, pods):
    objects = rig.built(with_metrics(k8s))
    policies = of_kind(objects, "NetworkPolicy")
    asking = Peer({"app": "prometheus"}, namespace="monitoring")
    agents = {name for name, pod in pods.items() if pod.labels[COMPONENT] == "agent"}
    found = {each.name: each for each in workloads(objects)}
    scraped = {name for name, each in found.items() if may(policies, asking, Peer(each.labels), 9100)}
    assert scraped == agents
    assert {name for name in found if "METRICS_PORT" in environ_of(found[name].container)} == agents


# --- what waits for what ---


def test_another_truth_is_another_bootstrap_and_another_gate_and_restarts_nobody(k8s, objects, tmp_path):
    truth = json.loads(TRUTH.read_bytes())
    truth["services"]["sources"]["settings"]["load"] = {"refresh": "7 * * * *"}
    other = tmp_path / "other.json"
    other.write_text(json.dumps(truth), encoding="utf-8")
    copied = tmp_path / "deploy"
    shutil.copytree(k8s.parent, copied)
    make(copied / "k8s", other)
    before, after = objects, rig.built(copied / "k8s/overlays/market")
    jobs = [{each["metadata"]["name"] for each in of_kind(each, "Job")} for each in (before, after)]
    assert jobs[0].isdisjoint(jobs[1])
    assert [{plain(name) for name in each} for each in jobs] == [{"bootstrap", "gate"}] * 2
    pods = [
        {each.name: each.pod for each in workloads(each) if each.whole["kind"] != "Job"}
        for each in (before, after)
    ]
    assert pods[0] == pods[1]


def test_readers_begin_after_the_gate_with_their_own_password_and_nobody_else_waits(pods):
    waiting = {name: pod.pod["initContainers"] for name, pod in pods.items() if "initContainers" in pod.pod}
    assert set(waiting) == READERS
    for name, (each,) in waiting.items():
        assert each["image"] == pods[name].container["image"]
        assert environ_of(each) == {"MARKET_REDIS_URL_FILE": "/keys/market-redis"}
        script = Path(each["command"][1])
        mounts = {mount["mountPath"]: mount["name"] for mount in each["volumeMounts"]}
        (volume,) = (one for one in pods[name].pod["volumes"] if one["name"] == mounts[str(script.parent)])
        assert plain(volume["configMap"]["name"]) == "await-gate"
        assert script.name == AWAIT_GATE.name


@pytest.fixture
def server(tmp_path):
    with Server(tmp_path / "bus") as server:
        yield server


@contextmanager
def waiting_reader(url: str, folder: Path) -> Iterator[subprocess.Popen[str]]:
    """Start what a reader's pod runs before the reader, for a bus at this URL."""
    file = folder / "url"
    file.write_text(f"{url}\n", encoding="ascii")
    environ = {"PATH": os.environ["PATH"], "MARKET_REDIS_URL_FILE": str(file)}
    line = [sys.executable, AWAIT_GATE]
    with subprocess.Popen(line, cwd=ROOT, env=environ, stderr=subprocess.PIPE, text=True) as reader:
        try:
            yield reader
        finally:
            reader.kill()


@pytest.mark.live
def test_a_reader_waits_while_the_gate_is_away_or_closed_and_begins_when_it_opens(server, tmp_path):
    with redis.Redis.from_url(server.url) as bus, waiting_reader(server.url, tmp_path) as reader:
        assert "unknown" in reader.stderr.readline()
        bus.set(PRELOAD_STATUS, json.dumps({"state": "closed"}))
        assert "closed" in reader.stderr.readline()
        bus.set(PRELOAD_STATUS, b"\xff no JSON")
        assert "no JSON" in reader.stderr.readline()
        assert reader.poll() is None
        bus.set(PRELOAD_STATUS, json.dumps({"state": "open"}))
        assert reader.wait(30) == 0


@pytest.mark.live
def test_a_reader_that_restarts_waits_for_no_gate_once_there_are_bars(server, tmp_path):
    with redis.Redis.from_url(server.url) as bus:
        bus.set(PRELOAD_STATUS, json.dumps({"state": "closed"}))
        bus.xadd(CHECKED_BARS, {"sym": "SPY"})
        with waiting_reader(server.url, tmp_path) as reader:
            assert reader.wait(30) == 0


@pytest.mark.live
def test_a_reader_of_other_streams_waits_for_the_gate_although_it_may_not_ask_for_bars(server, tmp_path):
    """A truth may name another stream for the bars, and then its services have no right to the usual one."""
    with redis.Redis.from_url(server.url) as bus:
        bus.acl_setuser(
            "archive", enabled=True, passwords=["+secret"], keys=[PRELOAD_STATUS], commands=["+@all"]
        )
        bus.set(PRELOAD_STATUS, json.dumps({"state": "closed"}))
        url = server.url.replace("redis://", "redis://archive:secret@")
        with waiting_reader(url, tmp_path) as reader:
            assert "closed" in reader.stderr.readline()
            bus.set(PRELOAD_STATUS, json.dumps({"state": "open"}))
            assert reader.wait(30) == 0


@pytest.mark.parametrize("url", ["redis+sentinel://127.0.0.1:{port}/market", "redis://127.0.0.1:{port}"])
def test_a_reader_whose_bus_does_not_answer_says_why(tmp_path, url):
    with waiting_reader(url.format(port=free_port()), tmp_path) as reader:
        assert "refused" in reader.stderr.readline()
        assert reader.poll() is None


def test_a_reader_with_a_url_of_no_bus_ends_with_the_name_of_its_variable(tmp_path):
    with waiting_reader("http://127.0.0.1", tmp_path) as reader:
        assert reader.wait(30) == 1
        assert "MARKET_REDIS_URL_FILE" in reader.stderr.read()
