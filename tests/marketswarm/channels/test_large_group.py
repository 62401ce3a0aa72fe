"""Two hundred services that die at once: each is named, or counted among those for which there is no room."""

import re
from datetime import UTC, datetime

import orjson
import pytest

from marketswarm.channels import (
    alertmanager,
    apprise,
    discord,
    email,
    ntfy,
    pagerduty,
    slack,
    teams,
    telegram,
)
from marketswarm.channels.webhook import encode_webhook_body
from support.channel_messages import group_of

LARGE = group_of([f"worker{i}end" for i in range(200)])
ENCODED = {
    "alertmanager": alertmanager.encode_alert_group(LARGE, "alertmanager"),
    "apprise": apprise.render_notification(LARGE, 2000)["body"].encode(),
    "discord": orjson.dumps(discord.build_payload(LARGE)),
    "email": email.compose_mail(
        LARGE, "a@example.org", "b@example.org", datetime(2025, 11, 6, tzinfo=UTC)
    ).as_bytes(),
    "ntfy": orjson.dumps(ntfy.build_payload(LARGE, "topic")),
    "pagerduty": orjson.dumps(pagerduty.build_requests(LARGE)["trigger"]),
    "slack": orjson.dumps(slack.build_payload(LARGE)),
    "teams": orjson.dumps(teams.build_payload(LARGE)),
    "telegram": orjson.dumps(telegram.build_payload(LARGE)),
    "webhook": encode_webhook_body(LARGE),
}


@pytest.mark.parametrize("kind", ENCODED)
def test_each_of_two_hundred_services_is_named_or_counted(kind):
    named = set(re.findall(rb"worker(\d+)end is down", ENCODED[kind]))
    left_out = re.search(rb"and (\d+) more", ENCODED[kind])
    assert len(named) + (int(left_out[1]) if left_out else 0) == 200
    assert len(named) >= 20
