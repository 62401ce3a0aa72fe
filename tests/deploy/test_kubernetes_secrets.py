"""A password is where it is used: not in git, not in what describes a pod, not with another program."""

import base64
import json
import subprocess
from urllib.parse import urlsplit

import pytest
import yaml

from marketswarm.acl import user_names
from marketswarm.truth import parse_truth
from support.rig.kubernetes import DEPLOY, ROOT, of_kind, plain, texts, workloads


@pytest.fixture
def passwords(fleet):
    return {file.name: file.read_text(encoding="utf-8").strip() for file in (fleet / "secrets").iterdir()}


def test_what_git_knows_of_deploy_holds_no_secret():
    known = subprocess.run(
        ["git", "ls-files", "deploy/k8s", "deploy/redis"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    files = [ROOT / line for line in known.stdout.splitlines()] or list((DEPLOY / "k8s").rglob("*.yaml"))
    assert files
    for file in files:
        text = file.read_text(encoding="utf-8")
        assert "redis://" not in text, file
        if file.suffix == ".yaml":
            for each in yaml.safe_load_all(text):
                assert each.get("kind") != "Secret", file
                assert not {"literals", "stringData"} & set(json.dumps(each).replace('"', " ").split()), file


def test_what_is_made_for_a_fleet_is_kept_out_of_git_and_of_images(fleet):
    made = sorted(file.name for file in fleet.iterdir())
    assert (fleet / "secrets").stat().st_mode & 0o077 == 0
    kept = {".gitignore", "kustomization.yaml"}
    assert (fleet / ".gitignore").read_text(encoding="utf-8").splitlines()[1:] == [
        "/*",
        "!/market/",  # another fleet
        "/market/*",
        *(f"!{name}" for name in sorted(kept)),
    ]
    assert set(made) > kept
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    assert ignored.index("deploy/k8s/fleet") > ignored.index("!deploy")


def test_each_program_is_given_its_own_password_and_no_other(objects, passwords):
    users = {each["metadata"]["name"]: each for each in of_kind(objects, "Secret")}
    for each in workloads(objects):
        keys = each.mounts.get("/keys")
        if keys is None:
            continue
        data = users[keys["of"]["secret"]["secretName"]]["data"]
        urls = {bus: urlsplit(base64.b64decode(value).decode().strip()) for bus, value in data.items()}
        assert {(bus, url.hostname, url.username, url.password) for bus, url in urls.items()} == {
            (bus, bus, each.name, passwords[each.name]) for bus in ("system-redis", "market-redis")
        }


def test_no_password_is_anywhere_else(objects, passwords):
    shown = {
        user: {password, base64.b64encode(password.encode()).decode().rstrip("=")}
        for user, password in passwords.items()
    }
    for each in objects:
        name = plain(each["metadata"]["name"])
        own = name.removesuffix("-urls").replace("-", "_") if each["kind"] == "Secret" else ""
        words = [*texts(each), *(decoded(value) for value in texts(each.get("data", {})))]
        for user, forms in shown.items():
            if user != own:
                assert not any(form in word for form in forms for word in words), (
                    f"{each['kind']} {name}: {user}"
                )


def test_the_operator_s_password_stays_with_the_operator(objects, passwords):
    assert "operator" in passwords
    assert not [each for each in of_kind(objects, "Secret") if "operator" in each["metadata"]["name"]]


def test_a_bus_is_given_hashes_alone_and_each_user_of_the_truth(objects):
    truth = parse_truth((ROOT / "truth.json").read_bytes()).truth
    for bus in ("system-redis", "market-redis"):
        (secret,) = (
            each for each in of_kind(objects, "Secret") if plain(each["metadata"]["name"]) == f"{bus}-users"
        )
        lines = base64.b64decode(secret["data"]["users.acl"]).decode().splitlines()
        assert {line.split()[1] for line in lines} == {"default", *user_names(truth)}
        assert not any(word.startswith(">") for line in lines for word in line.split())


def decoded(text: str) -> str:
    try:
        return base64.b64decode(text).decode()
    except ValueError:
        return ""
