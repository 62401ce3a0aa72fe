"""What each child of a fleet has in its environment: its own, and no secret of another."""

import orjson
import pytest

from marketswarm.fleet.environment import make_child_environ, make_server_environ
from marketswarm.truth import parse_truth

SECRETS = {
    "SMTP_PASSWORD": {"notifier", "sentinel"},
    "SMTP_PASSWORD_FILE": {"notifier", "sentinel"},
    "WEBHOOK_URL": {"notifier", "sentinel"},
    "NOTIFY_EXEC": {"notifier", "sentinel"},
    "NOTIFY_NIGHT_TOKEN": {"notifier"},
    "RATE_LIMIT_SEC": {"notifier"},
    "DEADMAN_URL": {"sentinel"},
    "HEALER_LEASE_SEC": {"healer"},
    # who records traces, and a service that declares nothing, which may have traces of its own
    "OTEL_EXPORTER_OTLP_ENDPOINT_FILE": {"healer", "sentinel", "notifier", "shop"},
    "OTEL_EXPORTER_OTLP_HEADERS": {"healer", "sentinel", "notifier", "shop"},
    "OTEL_RESOURCE_ATTRIBUTES": {"healer", "sentinel", "notifier", "shop"},
    "POLYGON_API_KEY": {"massive"},
    "VEXY_LLM_KEY_FILE": {"vexy_ai"},
    "PAID_FEED_URL": {"rss_agg"},
    "MY_DATABASE": {"shop"},
    "AWS_SECRET_ACCESS_KEY": {"shop"},
    "CACHE_PLACE": {
        "healer",
        "sentinel",
        "notifier",
        "rss_agg",
        "massive",
        "mesh",
        "vexy_ai",
        "shop",
        "bootstrap",
    },
}
ALL = {"PATH": "/bin", "HOME": "/root", "LC_ALL": "C", "HTTPS_PROXY": "http://p", "PYTHONPATH": "x",
       "SYSTEM_REDIS_URL": "redis://a", "TRUTH_REDIS_KEY": "k", "LOG_LEVEL": "INFO"}  # fmt: skip
MODULES = {
    **{name: name for name in ("healer", "sentinel", "notifier", "bootstrap")},
    **{name: f"services.{name}" for name in ("rss_agg", "massive", "mesh", "vexy_ai", "shop")},
}
ENVIRON = {**ALL, **dict.fromkeys(SECRETS, "hunter2")}
TRUTH = parse_truth(
    orjson.dumps(
        {
            "buses": {"cache": {"url": "env:CACHE_PLACE"}},
            "services": {
                "shop": {"settings": {"api_key": "env:SHOP_KEY"}},
                "mesh": {"settings": {"x": ["env:MESH_OWN"]}},
            },
        }
    )
).truth


@pytest.mark.parametrize("svc", MODULES)
def test_each_program_has_its_own_secrets_and_no_other(svc):
    found = make_child_environ(MODULES[svc], svc, TRUTH, ENVIRON)
    assert ALL.items() <= found.items()
    assert {name for name in SECRETS if name in found} == {
        name for name, who in SECRETS.items() if svc in who
    }


def test_a_server_has_none():
    found = make_server_environ(ENVIRON)
    assert found["PATH"] == "/bin"
    assert not found.keys() & (SECRETS.keys() | {"SYSTEM_REDIS_URL"})


def test_the_password_by_which_this_machine_beats_elsewhere_is_for_no_program_of_the_fleet():
    environ = {"MARKETSWARM_JOIN_PASSWORD": "x", "MARKETSWARM_JOIN_PASSWORD_FILE": "/x", "MARKETSWARM_A": "1"}
    for module, svc in (("healer", "healer"), ("shop_of_a_user", "shop")):
        assert make_child_environ(module, svc, TRUTH, environ) == {"MARKETSWARM_A": "1"}
    assert make_server_environ(environ) == {"MARKETSWARM_A": "1"}


def test_what_a_section_of_the_truth_names_its_service_has_and_no_other():
    environ = {"SHOP_KEY": "1", "MESH_OWN_FILE": "/x"}
    assert make_child_environ("services.mesh", "mesh", TRUTH, environ) == {"MESH_OWN_FILE": "/x"}
    assert "SHOP_KEY" in make_child_environ("services.shop", "shop", TRUTH, environ)


def test_a_truth_does_not_give_the_notifier_what_its_channels_may_not_have():
    channels = {"a": {"type": "webhook", "url": "env:POLYGON_API_KEY"}}
    raw = orjson.dumps({"services": {"notifier": {"settings": {"channels": channels}}}})
    assert "POLYGON_API_KEY" not in make_child_environ(
        "notifier", "notifier", parse_truth(raw).truth, ENVIRON
    )


def test_the_database_as_the_role_of_signals_is_for_signals_alone_which_is_given_no_other():
    environ = {"SIGNALS_DATABASE_URL_FILE": "/signals-url", "DATABASE_URL_FILE": "/url"}
    for svc, given in (("signals", "SIGNALS_DATABASE_URL_FILE"), ("archive", "DATABASE_URL_FILE")):
        found = make_child_environ(f"services.{svc}", svc, TRUTH, environ)
        assert found == {given: environ[given]}
    assert make_child_environ("services.board", "board", TRUTH, environ) == {"DATABASE_URL_FILE": "/url"}
