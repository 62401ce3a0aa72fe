"""A password is where it is used: not in git, not in what describes a pod, not with another program."""

import base64
import json
import subprocess
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import yaml

from bootstrap.database import format_verifier
from marketswarm.access.passwords import DATABASE_READER, DATABASE_SIGNALS
from marketswarm.access.users import user_names
from marketswarm.truth import parse_truth
from support.rig.kubernetes import DEPLOY, OVERLAYS, ROOT, TRUTHS, of_kind, plain, texts, title, workloads

BUSES = ("system-redis", "market-redis")
ROLES = {
    "archive": ("marketswarm", "password"),
    "board": (DATABASE_READER, "reader"),
    "signals": (DATABASE_SIGNALS, "signals"),
}
"""Who uses the database: its role there, and the file with the password of that."""


def read_passwords(folder):
    return {file.name: file.read_text(encoding="utf-8").strip() for file in folder.iterdir()}


def decode_secrets(objects):
    """Return what each Secret has, decoded, by its name without the hash."""
    return {
        plain(each["metadata"]["name"]): {
            key: base64.b64decode(value).decode() for key, value in each.get("data", {}).items()
        }
        for each in of_kind(objects, "Secret")
    }


def encode(password):
    return base64.b64encode(password.encode()).decode().rstrip("=")


def run_git(*words, **how):
    return subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=False, **how)


def test_what_git_knows_of_deploy_holds_no_secret():
    known = run_git("ls-files", "deploy/k8s", "deploy/redis").stdout.splitlines()
    files = [ROOT / line for line in known] or list((DEPLOY / "k8s").rglob("*.yaml"))
    assert files
    for file in files:
        text = file.read_text(encoding="utf-8")
        assert "redis://" not in text, file
        if file.suffix == ".yaml":
            for each in yaml.load_all(text, Loader=yaml.CSafeLoader):
                assert each.get("kind") != "Secret", file
                assert not {"literals", "stringData"} & set(json.dumps(each).replace('"', " ").split()), file


def test_what_is_made_for_a_fleet_is_kept_out_of_git_and_of_images(k8s):
    made = [path.relative_to(k8s) for path in (k8s / "fleet").rglob("*") if path.is_file()]
    kept = {
        Path("fleet", *part)
        for part in ((".gitignore",), ("kustomization.yaml",), ("market", "kustomization.yaml"))
    }
    assert len(made) > 50
    for fleet in TRUTHS:
        assert (k8s / fleet / "secrets").stat().st_mode & 0o077 == 0
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    assert ignored.index("deploy/k8s/fleet") > ignored.index("!deploy")
    paths = "\n".join(f"deploy/k8s/{each}" for each in made)
    ended = run_git("check-ignore", "--stdin", "--no-index", input=paths)
    if ended.returncode == 128:
        pytest.skip(ended.stderr.strip())
    taken = {f"deploy/k8s/{each}" for each in made} - set(ended.stdout.splitlines())
    assert taken == {f"deploy/k8s/{each}" for each in kept}


def test_each_program_is_given_its_own_password_and_the_gate_that_of_sources(overlays, k8s):
    for overlay, fleet in OVERLAYS.items():
        passwords, secrets = read_passwords(k8s / fleet / "secrets"), decode_secrets(overlays[overlay])
        for each in workloads(overlays[overlay]):
            if "/keys" not in each.mounts:
                assert each.labels["app.kubernetes.io/component"] in ("bus", "database")
                continue
            data = dict(secrets[plain(each.mounts["/keys"]["of"]["secret"]["secretName"])])
            user = "sources" if each.name == "gate" else each.name
            urls = {bus: urlsplit(data.pop(bus).strip()) for bus in BUSES}
            assert {(bus, url.hostname, url.username, url.password) for bus, url in urls.items()} == {
                (bus, bus, user, passwords[user]) for bus in BUSES
            }, (overlay, each.name)
            with_database = fleet == "fleet/market" and each.name in ROLES
            assert set(data) == ({"database"} if with_database else set()), (overlay, each.name)


def test_no_password_is_anywhere_else(overlays, k8s):
    for overlay, fleet in OVERLAYS.items():
        secrets = decode_secrets(overlays[overlay])
        passwords = read_passwords(k8s / fleet / "secrets")
        assert "operator" in passwords
        for user, password in passwords.items():
            name = f"{user.replace('_', '-')}-urls"
            holders = {
                each for each, data in secrets.items() if any(password in text for text in data.values())
            }
            assert holders == (set() if user == "operator" else {name}), (overlay, user)
        assert find_shown(overlays[overlay], passwords.values()) == [], overlay


def find_shown(objects, passwords):
    """Return the titles of the objects that show a password, plain or encoded; Secrets are checked apart."""
    forms = [form for password in passwords for form in (password, encode(password))]
    return [
        title(each)
        for each in objects
        if each["kind"] != "Secret" and any(form in text for text in texts(each) for form in forms)
    ]


def test_each_password_of_the_database_is_with_its_user_and_the_server_has_verifiers(market, k8s):
    secrets, passwords = decode_secrets(market), read_passwords(k8s / "fleet/market/database")
    assert secrets["postgres-users"] == {
        name: f"{format_verifier(passwords[name])}\n" for name in ("password", "reader", "signals")
    }
    for user, (role, name) in ROLES.items():
        password = passwords[name]
        url = f"postgresql://{role}:{password}@postgres:5432/marketswarm\n"
        assert secrets[f"{user}-urls"]["database"] == url
        holds = {each for each, data in secrets.items() if any(password in text for text in data.values())}
        assert holds == {f"{user}-urls"}
    assert find_shown(market, passwords.values()) == []


def test_the_keys_to_the_outside_are_with_who_asks_or_notifies_there(overlays):
    wanted = {
        "notifier": "notifications",
        "sentinel": "notifications",
        "massive": "massive",
        "vexy_ai": "vexy-ai",
        "board": "board",
        "medic": "medic",
        "signals": "signals",
    }
    wanted |= dict.fromkeys(("sources", "gate"), "sources")
    for overlay, objects in overlays.items():
        given = {
            each.name: plain(each.mounts["/secrets"]["of"]["secret"]["secretName"])
            for each in workloads(objects)
            if "/secrets" in each.mounts
        }
        there = {each.name for each in workloads(objects)}
        assert given == {name: secret for name, secret in wanted.items() if name in there}, overlay


def test_a_bus_is_given_hashes_alone_and_each_user_of_the_truth(overlays):
    for overlay, fleet in OVERLAYS.items():
        truth, secrets = parse_truth(TRUTHS[fleet].read_bytes()).truth, decode_secrets(overlays[overlay])
        for bus in BUSES:
            lines = secrets[f"{bus}-users"]["users.acl"].splitlines()
            assert {line.split()[1] for line in lines} == {"default", *user_names(truth)}, (overlay, bus)
            assert not any(word.startswith(">") for line in lines for word in line.split()), (overlay, bus)
