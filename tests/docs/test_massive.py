"""Holds the page on massive to the code: targets, reasons, variables; its examples are taken as they are."""

import re

import orjson

from marketswarm.agent.service_config import require_config
from marketswarm.event import Event, parse_event
from marketswarm.truth import parse_truth
from services.massive.market.settings import MarketEnvironment
from services.massive.probes.probers import trace
from services.massive.settings import MassiveEnvironment, MassiveSettings
from services.massive.targets import KINDS, Target
from support.pages import ROOT, blocks, section, table

PAGE = "docs/services/massive.md"
DNS_SAYS = {"nxdomain", "servfail"}


def code(text):
    return re.findall(r"`([a-z_]+)`", text)


def test_the_example_is_a_section_that_massive_takes():
    example = blocks(ROOT / PAGE, "json")[0]
    truth = parse_truth(orjson.dumps({"services": orjson.loads("{" + example + "}")})).truth
    found = require_config(MassiveSettings, "massive", truth.services["massive"]).settings
    assert [target.kind for target in found.targets] == ["tcp", "dns", "tls", "https"]


def test_the_events_that_are_shown_are_events():
    shown = blocks(ROOT / PAGE, "json")[1].splitlines()
    assert len(shown) == 2
    assert all(isinstance(parse_event(line.encode()), Event) for line in shown)


def test_every_key_of_a_target_is_explained_and_none_is_made_up():
    common, kinds = [], {}
    for row in table(PAGE, "Targets"):
        if row[0].strip("`") in KINDS:
            kinds[row[0].strip("`")] = set(code(row[1])) - {"true", "false"}
        else:
            common += code(row[0])
    assert set(common) == set(Target.model_fields)
    for kind, model in KINDS.items():
        assert kinds[kind] == set(model.model_fields) - set(Target.model_fields), kind


def test_each_reason_is_explained():
    shown = {word for row in table(PAGE, "Reasons") for word in code(row[0])}
    shown |= {word for row in table(PAGE, "Reasons") for word in re.findall(r"`(status_)\d+`", row[0])}
    sources = [
        file for file in (ROOT / "services/massive/probes/probers").glob("*.py") if file.stem != "polygon"
    ]
    text = "".join(file.read_text(encoding="utf-8") for file in sources)
    said = set(re.findall(r'ProbeError\(f?"([a-z_]+)', text)) | set(trace.REASON_BY_CODE.values())
    said |= {word for _, word in (*trace.REASON_BY_TYPE, *trace.REASON_OF_OTHERS)}
    assert said <= shown
    assert shown - said <= DNS_SAYS | {"unknown_name", "untrusted", "garbled", "no_host", "broken", "refused"}


def test_each_variable_is_explained():
    shown = set(re.findall("`([A-Z_]{4,})`", section(PAGE, "Environment")))
    own = set(MassiveEnvironment.model_fields) - set(MassiveEnvironment.__mro__[1].model_fields)
    own -= set(MarketEnvironment.model_fields)
    assert shown == {name.upper() for name in own} | {"POLYGON_API_KEY"}
