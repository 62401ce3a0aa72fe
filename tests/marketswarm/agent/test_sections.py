"""The services' models, found by convention: what they find wrong is refused, what is amiss with them not."""

import importlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

from marketswarm.agent import sections
from marketswarm.truth import TruthError
from marketswarm.truth import load as load_truth

SHIPPED = Path(__file__).parents[3] / "truth.json"
MODEL = """
from typing import Annotated
from pydantic import Field, model_validator
from marketswarm.agent import Own

class Wishes(Own):
    poll_sec: Annotated[float, Field(gt=0)] = 1.0

class Section(Own):
    settings: Wishes = Wishes()
"""


@pytest.fixture
def service(tmp_path, monkeypatch):
    """Puts a service into the package of services, for as long as the test lasts."""
    package = importlib.import_module("services")
    monkeypatch.setattr(package, "__path__", [*package.__path__, str(tmp_path)])
    before = set(sys.modules)

    def made(name, source=None):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").touch()
        if source is not None:
            (tmp_path / name / "section.py").write_text(source, encoding="utf-8")
        importlib.invalidate_caches()

    yield made
    for name in set(sys.modules) - before:
        if name.startswith("services."):
            del sys.modules[name]


def document(**services):
    return json.dumps({"services": services}).encode()


def refused(raw):
    with pytest.raises(TruthError) as refusal:
        sections.load(raw)
    return [str(each) for each in refusal.value.problems]


def test_the_shipped_truth_is_right_for_the_shipped_services_without_a_doubt():
    loaded = sections.load(SHIPPED.read_bytes())
    assert loaded.warnings == ()
    assert loaded == load_truth(SHIPPED.read_bytes())


@pytest.mark.parametrize("svc", ["rss_agg", "massive", "mesh", "vexy_ai"])
def test_each_shipped_service_has_a_model_that_loads_nothing_heavy(svc):
    assert sections.model_of(svc) is not None
    heavy = {"httpx", "feedparser", "dns", "websockets", "vaderSentiment", "rensa"}
    source = f"import sys, services.{svc}.section; print(*({heavy} & set(sys.modules)))"
    assert run_python(source) == ""


def run_python(source):
    return subprocess.run(
        [sys.executable, "-c", source], capture_output=True, text=True, check=True
    ).stdout.strip()


def test_a_mistake_in_a_services_own_part_is_one_of_the_truth(service):
    service("lamp", MODEL)
    assert refused(document(lamp={"settings": {"poll_sec": -5}})) == [
        "services.lamp.settings.poll_sec: -5 is not more than 0"
    ]


def test_a_name_with_a_hyphen_has_its_module_with_an_underscore(service):
    service("red_lamp", MODEL)
    assert len(refused(document(**{"red-lamp": {"settings": {"poll_sec": -5}}}))) == 1


def test_all_mistakes_are_told_at_once_those_of_the_document_first(service):
    service("lamp", MODEL)
    raw = document(
        lamp={"settings": {"poll_sec": -5}, "heartbeat": {"interval_sec": 0}}, b={"depends_on": ["nobody"]}
    )
    assert [each.partition(":")[0] for each in refused(raw)] == [
        "services.lamp.heartbeat.interval_sec",
        "services.b.depends_on[0]",
        "services.lamp.settings.poll_sec",
    ]


def test_nothing_is_said_twice_of_one_place(service):
    service("lamp", MODEL.replace("    poll_sec:", "    api_token: int = 0\n    poll_sec:"))
    (said,) = refused(document(lamp={"settings": {"api_token": "hunter2"}}))
    assert said.startswith("services.lamp.settings.api_token: a secret in plain text")
    assert len(refused(document(lamp={"settings": {"poll_sec": "x", "api_token": "hunter2"}}))) == 2
    assert len(refused(document(lamp={"settings": "bright"}))) == 1


def test_an_unknown_key_is_a_doubt_and_no_mistake(service):
    service("lamp", MODEL)
    loaded = sections.load(document(lamp={"settings": {"pol_sec": 5}}))
    assert [str(each) for each in loaded.warnings] == [
        'services.lamp.settings.pol_sec: is not a known key (did you mean "poll_sec"?)'
    ]


@pytest.mark.parametrize("svc", ["nobody_here", "os", "x.y", "class", "healer", "main", "bare"])
def test_what_has_no_model_here_is_not_checked(service, svc):
    service("bare")
    loaded = sections.load(document(**{svc: {"settings": {"poll_sec": "anything"}}}))
    assert loaded.warnings == ()


@pytest.mark.parametrize(
    ("source", "why"),
    [
        ("import nothing_of_that_name", "can't be loaded (ModuleNotFoundError"),
        ("def", "can't be loaded (SyntaxError"),
        ("raise SystemExit(3)", "can't be loaded (SystemExit"),
        ("", "has no class Section(Own)"),
        ("Section = 3", "has no class Section(Own)"),
        ("class Section: pass", "has no class Section(Own)"),
        (MODEL + "    @model_validator(mode='after')\n    def _x(self): return 1 / 0\n", "its model failed"),
    ],
)
def test_a_model_that_can_t_be_had_is_a_doubt_and_never_an_end(service, source, why):
    service("lamp", source)
    service("good", MODEL)
    loaded = sections.load(document(lamp={"settings": {"poll_sec": 1}}, good={}))
    (doubt,) = loaded.warnings
    assert doubt.path == "services.lamp"
    assert why in doubt.message
    assert len(refused(document(lamp={}, good={"settings": {"poll_sec": 0}}))) == 1


def test_the_problems_of_an_accepted_truth_can_be_had_alone(service):
    service("lamp", MODEL)
    truth = load_truth(document(lamp={"settings": {"poll_sec": 0}})).truth
    assert [each.path for each in sections.problems(truth)] == ["services.lamp.settings.poll_sec"]


def test_the_notifiers_own_part_is_checked_like_a_services():
    section = {"settings": {"routes": [{"channels": ["pager"], "severty": "critical"}], "group_wait_sec": -1}}
    wrong = refused(document(notifier=section))
    assert any(each.startswith("services.notifier.settings.routes[0].") for each in wrong), wrong
    assert any(each.startswith("services.notifier.settings.group_wait_sec") for each in wrong), wrong


def test_what_a_truth_asks_of_the_environment_and_does_not_get_is_a_doubt_with_its_path():
    channels = {
        "run": {"type": "exec", "command": "touch /tmp/x"},
        "phone": {"type": "ntfy", "url": "https://n.example/t", "token": "env:NTFY_TOKEN"},
        "good": {"type": "ntfy", "url": "env:NTFY_URL", "token": "env:NTFY_TOKEN"},
    }
    target = {"name": "api", "kind": "polygon", "url": "https://evil.example"}
    services = {
        "notifier": {"settings": {"channels": channels}},
        "rss_agg": {
            "endpoints": [{"url": "env:SMTP_PASSWORD", "name": "a"}, {"url": "env:A_FEED", "name": "b"}]
        },
        "massive": {"settings": {"market": {"rest_url": "http://127.0.0.1:9"}, "targets": [target]}},
    }
    warnings = [str(each) for each in sections.load(json.dumps({"services": services}).encode()).warnings]
    begins = (
        "services.notifier.settings.channels.run.command: a truth names no command",
        "services.notifier.settings.channels.phone.token: NTFY_TOKEN goes there only if",
        "services.rss_agg.endpoints[0].url: SMTP_PASSWORD is not for feeds",
        "services.massive.settings.market.rest_url: the key is not sent to 127.0.0.1:9",
        "services.massive.settings.targets[0].url: the key is not sent to evil.example",
    )
    assert [any(line.startswith(each) for line in warnings) for each in begins] == [True] * 5
    assert not [line for line in warnings if ".good" in line or "endpoints[1]" in line]
