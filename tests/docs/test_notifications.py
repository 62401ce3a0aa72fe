"""Holds docs/notifications.md to what is really sent, and to the settings and decisions that there are."""

import re
from pathlib import Path

import orjson

from marketswarm.channels import KINDS
from marketswarm.channels.message import encode_webhook_body
from marketswarm.channels.registry import create_channel
from marketswarm.channels.webhook import build_headers
from marketswarm.truth import parse_truth
from notifier.router.incident import Decision
from notifier.router.policy import RATE_LIMIT_SEC, Policy
from support.channel_messages import GOLDEN, MISS
from support.pages import ROOT, blocks, section, table

PAGE = ROOT / "docs" / "notifications.md"
KEY = b"key"
SHOWN_AS = {
    "slack": "Slack",
    "discord": "Discord",
    "teams": "Microsoft Teams",
    "pagerduty": "PagerDuty",
    "alertmanager": "Alertmanager",
    "webhook": "Webhook",
    "email": "E-mail",
    "ntfy": "ntfy",
    "telegram": "Telegram",
    "pushover": "Pushover",
    "exec": "A command",
    "apprise": "Apprise",
}


def sample(kind: str) -> str:
    """The first block under the heading of a kind of channel."""
    heading = f"\n### {SHOWN_AS[kind]}\n"
    text = section("docs/notifications.md", "What each channel sends")
    found = re.search(r"^```\w+\n(.*?)^```$", text.split(heading, 1)[1], re.MULTILINE | re.DOTALL)
    assert found is not None
    return found[1]


def golden(kind: str) -> Path:
    [path] = (GOLDEN / kind).glob("miss.*")
    return path


def test_the_sample_of_each_channel_is_its_golden_file():
    for kind in KINDS:
        shown, path = sample(kind), golden(kind)
        if path.suffix == ".txt":
            assert shown == path.read_text(encoding="utf-8"), kind
        else:
            body = shown.partition("\n\n")[2] if kind == "webhook" else shown
            assert orjson.loads(body) == orjson.loads(path.read_bytes()), kind


def test_the_headers_of_the_webhook_are_those_that_are_sent():
    head, _, body = sample("webhook").partition("\n\n")
    assert orjson.loads(body) == orjson.loads(encode_webhook_body(MISS))
    shown = dict(line.split(": ", 1) for line in head.splitlines()[1:])
    assert shown == build_headers(MISS, encode_webhook_body(MISS), int(shown["webhook-timestamp"]), KEY)


def test_the_signature_can_be_checked_as_it_says():
    (source,) = blocks(PAGE, "python")
    names: dict = {}
    exec(source, names)  # noqa: S102 - the page's own example
    body = encode_webhook_body(MISS)
    headers = build_headers(MISS, body, 17, KEY)
    assert names["is_genuine"](headers, body, KEY)
    assert not names["is_genuine"](headers, body + b" ", KEY)
    assert not names["is_genuine"](headers, body, b"another")


def test_each_kind_of_channel_has_a_row_with_its_options():
    rows = {row[0].strip("`"): row[2] for row in table("docs/notifications.md", "Channels")}
    assert list(rows) == list(KINDS)
    for kind, shown in rows.items():
        module = __import__(f"marketswarm.channels.{kind}", fromlist=["Options"])
        assert set(re.findall("`([a-z_]+)`", shown)) == set(module.Options.model_fields) - {"api"}, kind


def the_policy() -> Policy:
    (example,) = (each for each in blocks(PAGE, "json") if '"notifier"' in each)
    return Policy.model_validate(parse_truth(example.encode()).truth.services["notifier"].settings)


def test_the_settings_that_are_shown_are_taken():
    policy = the_policy()
    assert set(policy.model_fields_set) == set(Policy.model_fields) - {"flap_window_sec"}


async def test_the_channels_that_are_shown_can_be_made():
    for name, options in the_policy().channels.items():
        filled = {
            option: "a@example.org" if str(value).startswith("env:") else value
            for option, value in options.items()
        }
        await create_channel(filled.pop("type"), name, filled).aclose()


def test_the_table_of_settings_has_all_of_them_with_their_defaults():
    rows = {row[0].strip("`"): row[1] for row in table("docs/notifications.md", "Settings")}
    assert set(rows) == set(Policy.model_fields)
    for name in ("group_wait_sec", "flap_window_sec", "remind_sec"):
        default = Policy.model_fields[name].default
        numbers = default if isinstance(default, tuple) else (default,)
        assert rows[name] == ", ".join(f"{number:g}" for number in numbers), name
    assert f"{RATE_LIMIT_SEC:g}" in rows["rate_limit_sec"]


def test_each_decision_is_explained():
    rows = {row[0].strip("`") for row in table("docs/notifications.md", "What is sent, and when")}
    assert rows == {str(reason) for reason in Decision}
