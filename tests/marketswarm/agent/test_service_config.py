"""A service's own part of the truth: what is read, what is wrong with it, and how that is said."""

import importlib
import json
import subprocess
import sys
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import pytest
from pydantic import Field, model_validator

from marketswarm.agent import first_point, point_like, service_config
from marketswarm.agent.service_config import ServiceConfig, find_unknown_keys, parse_config, require_config
from marketswarm.exit import Exit
from marketswarm.truth import AccessPoint, Heartbeat, Service, TruthError, parse_truth


class Branch(ServiceConfig):
    kind: Literal["dns"]
    host: str


class Other(ServiceConfig):
    kind: Literal["https", "tls"]
    url: str


class EveryKind(ServiceConfig):
    sec: Annotated[float, Field(gt=0, le=86_400, allow_inf_nan=False)] = 1
    below: Annotated[float, Field(lt=0.5)] = 0
    times: Annotated[int, Field(ge=1)] = 1
    even: Annotated[int, Field(multiple_of=2)] = 2
    on: bool = True
    word: Annotated[str, Field(min_length=2, max_length=4, pattern="^[a-z]*$")] = "ab"
    words: Annotated[tuple[str, ...], Field(min_length=1, max_length=2)] = ("a",)
    level: Literal["info", "warning"] = "info"
    by_name: dict[str, int] = Field(default_factory=dict)
    inner: Branch | None = None
    any_of: Annotated[Branch | Other, Field(discriminator="kind")] | None = None
    api_token: int = 0
    price: Decimal = Decimal(0)
    sum_of: tuple[int, ...] = ()

    @model_validator(mode="after")
    def _adds_up(self) -> Self:
        if sum(self.sum_of) > 10:
            raise ValueError("sum_of[1]: together with the first more than 10")
        if len(self.sum_of) > 2:
            raise ValueError("three of them are one too many")
        return self


class EveryKindConfig(ServiceConfig):
    settings: EveryKind = EveryKind()


def told(svc: str = "a", **settings: Any) -> list[str]:
    section = Service(heartbeat=Heartbeat(channel="a:heartbeat"), settings=settings)
    return [str(each) for each in parse_config(EveryKindConfig, svc, section)[1]]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"sec": 0}, "sec: 0 is not more than 0"),
        ({"sec": 100_000}, "sec: 100000 is more than 86400"),
        ({"sec": "soon"}, "sec: text is not a number"),
        ({"sec": None}, "sec: null is not a number"),
        ({"sec": [1]}, "sec: a list is not a number"),
        ({"below": 0.5}, "below: 0.5 is not less than 0.5"),
        ({"times": 0}, "times: 0 is less than 1"),
        ({"times": 1.5}, "times: 1.5 is not a whole number"),
        ({"times": "x"}, "times: text is not a whole number"),
        ({"times": {}}, "times: an object is not a whole number"),
        ({"even": 3}, "even: 3 is not a multiple of 2"),
        ({"on": "perhaps"}, "on: text is not true or false"),
        ({"on": 7}, "on: 7 is not true or false"),
        ({"word": 3}, "word: 3 is not text"),
        ({"word": "a"}, "word: text has less than 2 characters"),
        ({"word": "abcde"}, "word: text has more than 4 characters"),
        ({"word": "AB"}, "word: text does not have the form that is asked for"),
        ({"words": "ab"}, "words: text is not a list"),
        ({"words": []}, "words: a list has less than 1 entries"),
        ({"words": ["a", "b", "c"]}, "words: a list has more than 2 entries"),
        ({"words": ["a", 2]}, "words[1]: 2 is not text"),
        ({"level": "warnign"}, 'level: text is not a known value (did you mean "warning"?)'),
        ({"level": 3}, "level: 3 is not a known value (known: info, warning)"),
        ({"by_name": [1]}, "by_name: a list is not an object"),
        ({"by_name": {"a b": "x"}}, 'by_name["a b"]: text is not a whole number'),
        ({"inner": 3}, "inner: 3 is not an object"),
        ({"inner": {"kind": "dns"}}, "inner.host: missing"),
        ({"any_of": {"kind": "dns"}}, "any_of.host: missing"),
        ({"any_of": {}}, "any_of: an object says nowhere of what kind it is"),
        (
            {"any_of": {"kind": "htps", "url": "x"}},
            'any_of: an object is not a known value (did you mean "https"?)',
        ),
        ({"api_token": "hunter2"}, "api_token: text is not a whole number"),
        ({"api_token": 1234.5}, "api_token: the value is not a whole number"),
        ({"sum_of": [5, 6]}, "sum_of[1]: together with the first more than 10"),
    ],
)
def test_a_mistake_has_its_words(settings, said):
    assert told(**settings) == [f"services.a.settings.{said}"]


def test_what_a_validator_says_of_the_whole_stands_at_the_whole():
    assert told(sum_of=[1, 2, 3]) == ["services.a.settings: three of them are one too many"]


def test_a_kind_of_mistake_that_nobody_thought_of_is_told_all_the_same():
    (said,) = told(price="x")
    assert said.startswith("services.a.settings.price: text ")


def test_the_name_of_a_service_stands_in_the_path_as_in_every_other():
    assert told("a.b", times=0) == ['services["a.b"].settings.times: 0 is less than 1']


@pytest.mark.parametrize("secret", ["hunter2", "https://u:hunter2@h/", "x" * 50 + "hunter2"])
def test_no_text_is_ever_repeated(secret):
    keys = [key for key in EveryKind.model_fields if key != "word"]
    said = told(**dict.fromkeys(keys, secret))
    assert len(said) >= len(keys) - 1
    assert "hunter2" not in str(said)


class PollSettings(ServiceConfig):
    poll_sec: Annotated[float, Field(gt=0)] = 60.0


class PollConfig(ServiceConfig):
    settings: PollSettings = PollSettings()


def section(**settings):
    return Service(heartbeat=Heartbeat(channel="a:heartbeat"), settings=settings)


def test_what_is_not_said_has_a_default_and_what_is_unknown_is_left_alone():
    assert require_config(PollConfig, "a", section(other=1)).settings.poll_sec == 60.0
    assert require_config(PollConfig, "a", section(poll_sec=5)).settings.poll_sec == 5.0


class Lamp(ServiceConfig):
    kind: Literal["lamp"]
    watt: int = 5


class Fan(ServiceConfig):
    kind: Literal["fan"]
    blades: int = 3


class Room(ServiceConfig):
    name: str
    things: tuple[Annotated[Lamp | Fan, Field(discriminator="kind")], ...] = ()


class House(ServiceConfig):
    settings: PollSettings = PollSettings()
    endpoints: tuple[Room, ...] = ()


def house(*rooms, **settings):
    return Service(heartbeat=Heartbeat(channel="a:heartbeat"), endpoints=list(rooms), settings=settings)


def test_unknown_keys_are_named_at_any_depth_with_what_was_probably_meant():
    said = house(
        {"name": "hall", "nmae": 1, "things": [{"kind": "lamp"}, {"kind": "fan", "blade": 4}]},
        poll_sex=3,
        other={"deep": 1},
    )
    own, problems = parse_config(House, "a", said)
    assert problems == []
    assert [str(each) for each in find_unknown_keys(own, "a", said)] == [
        'services.a.settings.poll_sex: is not a known key (did you mean "poll_sec"?)',
        "services.a.settings.other: is not a known key (known: poll_sec)",
        'services.a.endpoints[0].nmae: is not a known key (did you mean "name"?)',
        'services.a.endpoints[0].things[1].blade: is not a known key (did you mean "blades"?)',
    ]


def test_a_part_that_the_model_does_not_have_is_not_looked_at():
    said = section(poll_sec=1)
    own, _ = parse_config(PollConfig, "a", replace(said, endpoints=[{"x": 1}]))
    assert find_unknown_keys(own, "a", replace(said, endpoints=[{"x": 1}])) == []


def test_a_branch_of_a_union_is_no_part_of_a_path():
    _, problems = parse_config(House, "a", house({"name": "hall", "things": [{"kind": "lamp", "watt": "x"}]}))
    assert [each.path for each in problems] == ["services.a.endpoints[0].things[0].watt"]


def test_all_mistakes_are_named_at_once():
    _, problems = parse_config(House, "a", house({}, {"name": 3}, "x", poll_sec=-5))
    assert [str(each) for each in problems] == [
        "services.a.settings.poll_sec: -5 is not more than 0",
        "services.a.endpoints[0].name: missing",
        "services.a.endpoints[1].name: 3 is not text",
        "services.a.endpoints[2]: text is not an object",
    ]


def test_a_mistake_is_named_with_its_path_and_without_its_value():
    with pytest.raises(Exit, match=r"services\.a\.settings\.poll_sec: ") as caught:
        require_config(PollConfig, "a", section(poll_sec="hunter2"))
    assert caught.value.code == 2
    assert "hunter2" not in caught.value.message


SHIPPED = Path(__file__).parents[3] / "truth.json"
MODEL = """
from typing import Annotated
from pydantic import Field, model_validator
from marketswarm.agent import ServiceConfig

class Wishes(ServiceConfig):
    poll_sec: Annotated[float, Field(gt=0)] = 1.0

class Section(ServiceConfig):
    settings: Wishes = Wishes()
"""


@pytest.fixture
def service(tmp_path, monkeypatch):
    """Puts a service into the package of services, for as long as the test lasts."""
    package = importlib.import_module("services")
    monkeypatch.setattr(package, "__path__", [*package.__path__, str(tmp_path)])
    before = set(sys.modules)

    def made(name, source=None, file="section.py"):
        (tmp_path / name).mkdir(exist_ok=True)
        (tmp_path / name / "__init__.py").touch()
        if source is not None:
            (tmp_path / name / file).write_text(source, encoding="utf-8")
        importlib.invalidate_caches()

    yield made
    for name in set(sys.modules) - before:
        if name.startswith("services."):
            del sys.modules[name]


def document(**services):
    return json.dumps({"services": services}).encode()


def refused(raw):
    with pytest.raises(TruthError) as refusal:
        service_config.load_with_sections(raw)
    return [str(each) for each in refusal.value.problems]


def test_the_shipped_truth_is_right_for_the_shipped_services_without_a_doubt():
    loaded = service_config.load_with_sections(SHIPPED.read_bytes())
    assert loaded.warnings == ()
    assert loaded == parse_truth(SHIPPED.read_bytes())


def test_each_shipped_service_has_a_model_that_loads_nothing_heavy():
    services = ["rss_agg", "massive", "mesh", "vexy_ai"]
    assert None not in map(service_config.find_model, services)
    heavy = {"httpx", "feedparser", "dns", "websockets", "vaderSentiment", "rensa"}
    models = ", ".join(f"services.{svc}.settings" for svc in services)
    assert run_python(f"import sys, {models}; print(*({heavy} & set(sys.modules)))") == ""


def run_python(source):
    return subprocess.run(
        [sys.executable, "-c", source], capture_output=True, text=True, check=True
    ).stdout.strip()


def test_a_mistake_in_a_services_own_part_is_one_of_the_truth(service):
    service("lamp", MODEL)
    assert refused(document(lamp={"settings": {"poll_sec": -5}})) == [
        "services.lamp.settings.poll_sec: -5 is not more than 0"
    ]


def test_a_model_may_be_in_settings_and_have_any_name(service):
    service("lamp", MODEL.replace("Section", "LampSettings"), "settings.py")
    assert len(refused(document(lamp={"settings": {"poll_sec": -5}}))) == 1


def test_a_service_may_have_settings_that_are_no_model(service):
    service("lamp", "class Settings: pass", "settings.py")
    assert (
        service_config.load_with_sections(document(lamp={"settings": {"poll_sec": "anything"}})).warnings
        == ()
    )
    service("torch", MODEL)
    service("torch", "raise SystemExit(3)", "settings.py")
    assert len(refused(document(torch={"settings": {"poll_sec": -5}}))) == 1


def test_a_model_that_derives_from_another_is_the_one_and_two_beside_each_other_are_a_doubt(service):
    service("lamp", MODEL + "\nclass Bright(Section):\n    endpoints: tuple[int, ...] = ()\n")
    assert service_config.find_model("lamp").__name__ == "Bright"
    service("twin", MODEL + "\nclass Other(ServiceConfig):\n    settings: Wishes = Wishes()\n")
    (doubt,) = service_config.load_with_sections(document(twin={})).warnings
    assert "has several class(ServiceConfig)" in str(doubt)


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
    loaded = service_config.load_with_sections(document(lamp={"settings": {"pol_sec": 5}}))
    assert [str(each) for each in loaded.warnings] == [
        'services.lamp.settings.pol_sec: is not a known key (did you mean "poll_sec"?)'
    ]


@pytest.mark.parametrize("svc", ["nobody_here", "os", "x.y", "class", "healer", "main", "bare"])
def test_what_has_no_model_here_is_not_checked(service, svc):
    service("bare")
    loaded = service_config.load_with_sections(document(**{svc: {"settings": {"poll_sec": "anything"}}}))
    assert loaded.warnings == ()


@pytest.mark.parametrize(
    ("source", "why"),
    [
        ("import nothing_of_that_name", "can't be loaded (ModuleNotFoundError"),
        ("def", "can't be loaded (SyntaxError"),
        ("raise SystemExit(3)", "can't be loaded (SystemExit"),
        ("", "has no class(ServiceConfig) with a field endpoints or settings"),
        ("Section = 3", "has no class(ServiceConfig) with a field endpoints or settings"),
        ("class Section: pass", "has no class(ServiceConfig) with a field endpoints or settings"),
        (MODEL + "    @model_validator(mode='after')\n    def _x(self): return 1 / 0\n", "its model failed"),
    ],
)
def test_a_model_that_can_t_be_had_is_a_doubt_and_never_an_end(service, source, why):
    service("lamp", source)
    service("good", MODEL)
    loaded = service_config.load_with_sections(document(lamp={"settings": {"poll_sec": 1}}, good={}))
    (doubt,) = loaded.warnings
    assert doubt.path == "services.lamp"
    assert why in doubt.message
    assert len(refused(document(lamp={}, good={"settings": {"poll_sec": 0}}))) == 1


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
    warnings = [
        str(each)
        for each in service_config.load_with_sections(json.dumps({"services": services}).encode()).warnings
    ]
    begins = (
        "services.notifier.settings.channels.run.command: a truth names no command",
        "services.notifier.settings.channels.phone.token: NTFY_TOKEN goes there only if",
        "services.rss_agg.endpoints[0].url: SMTP_PASSWORD is not for feeds",
        "services.massive.settings.market.rest_url: the key is not sent to 127.0.0.1:9",
        "services.massive.settings.targets[0].url: the key is not sent to evil.example",
    )
    assert [any(line.startswith(each) for line in warnings) for each in begins] == [True] * 5
    assert not [line for line in warnings if ".good" in line or "endpoints[1]" in line]


def points(*keys):
    return [AccessPoint(bus="market-redis", key=key) for key in keys]


def test_the_first_that_carries_no_heartbeat_is_meant():
    found = first_point(points("rss_agg:heartbeat", "news:all", "rss:items"), "system-redis", "rss:items")
    assert (found.bus, found.key) == ("market-redis", "news:all")


def test_without_any_the_contract_holds():
    found = first_point(points("rss_agg:heartbeat"), "system-redis", "rss:items")
    assert (found.bus, found.key) == ("system-redis", "rss:items")


def test_among_several_the_last_word_tells():
    several = points("team:topology", "team:events")
    assert point_like(several, "system-redis", "mesh:events").key == "team:events"
    assert point_like(several, "system-redis", "mesh:topology").key == "team:topology"
    assert point_like(several, "system-redis", "mesh:other").key == "mesh:other"
