import pytest
from pydantic import SecretStr

from marketswarm.exit import Exit
from marketswarm.settings import MAX_SECRET_FILE_BYTES, CommonSettings, read_settings, read_variable
from marketswarm.settings.programs import HealerSettings, SentinelSettings


@pytest.fixture
def env(monkeypatch):
    for name in (*HealerSettings.model_fields, *SentinelSettings.model_fields):
        monkeypatch.delenv(name.upper(), raising=False)
        monkeypatch.delenv(f"{name.upper()}_FILE", raising=False)
    return lambda **values: [monkeypatch.setenv(name, value) for name, value in values.items()]


class Secretive(CommonSettings):
    smtp_password: SecretStr | None = None
    plain: str = "as is"


def test_an_empty_environment_gives_the_defaults_of_the_contract(env):
    found = read_settings(HealerSettings)
    assert (found.truth_redis_key, found.truth_wait_sec, found.bootstrap_timeout_sec) == (
        "truth:doc",
        30.0,
        60.0,
    )
    assert (found.default_timeout_sec, found.healer_lease_sec, found.log_level) == (30.0, 3.0, "INFO")
    assert found.redis_url is found.truth_redis_url is found.alert_channel is found.hb_interval_sec is None


def test_an_empty_variable_counts_as_not_set(env):
    env(TRUTH_REDIS_KEY="", TRUTH_WAIT_SEC="", REDIS_URL="")
    assert read_settings(CommonSettings) == CommonSettings()


@pytest.mark.parametrize(
    ("written", "found"), [("debug", "DEBUG"), ("Warn", "WARNING"), (" ERROR ", "ERROR")]
)
def test_a_level_may_be_written_in_any_case(env, written, found):
    env(LOG_LEVEL=written)
    assert read_settings(CommonSettings).log_level == found


WRONG = [
    ("LOG_LEVEL", "hunter2"),
    ("LOG_FORMAT", "hunter2"),
    ("TRUTH_WAIT_SEC", "hunter2"),
    ("TRUTH_WAIT_SEC", "-1"),
    ("TRUTH_WAIT_SEC", "nan"),
    ("TRUTH_WAIT_SEC", "inf"),
    ("DEFAULT_TIMEOUT_SEC", "0"),
    ("REDIS_URL", "http://hunter2"),
    ("REDIS_URL", "redis://me:hunter2@:6379"),
    ("REDIS_URL", "redis://me:hunter2@host:99999"),
    ("REDIS_URL", "redis://me:hunter2@[::1"),
    ("TRUTH_REDIS_URL", "hunter2"),
    ("TRUTH_REDIS_URL", "redis://:S3@hunter2#et@127.0.0.1:6379"),
]


@pytest.mark.parametrize(("name", "value"), WRONG)
def test_a_variable_that_does_not_parse_is_named_and_its_value_is_not_shown(env, name, value):
    env(**{name: value})
    with pytest.raises(Exit) as caught:
        read_settings(CommonSettings)
    assert caught.value.code == 2
    assert name in caught.value.message
    assert "hunter2" not in caught.value.message
    assert value not in caught.value.message.replace("0", "")


def test_every_mistake_is_named_at_once(env):
    env(LOG_LEVEL="loud", SENTINEL_TIMEOUT_SEC="soon")
    with pytest.raises(Exit, match=r"LOG_LEVEL.*SENTINEL_TIMEOUT_SEC|SENTINEL_TIMEOUT_SEC.*LOG_LEVEL"):
        read_settings(SentinelSettings)


def test_a_url_and_a_secret_may_come_from_a_file(env, tmp_path):
    (tmp_path / "url").write_text("redis://me:pw@host:1\n")
    (tmp_path / "password").write_text("secret \n")
    env(REDIS_URL_FILE=str(tmp_path / "url"), SMTP_PASSWORD_FILE=str(tmp_path / "password"))
    found = read_settings(Secretive)
    assert found.redis_url == "redis://me:pw@host:1"
    assert found.smtp_password is not None
    assert found.smtp_password.get_secret_value() == "secret"
    assert "pw" not in repr(found)
    assert "secret" not in repr(found)


def test_what_bears_no_secret_has_no_twin(env, tmp_path):
    (tmp_path / "plain").write_text("from a file")
    env(PLAIN_FILE=str(tmp_path / "plain"))
    assert read_settings(Secretive).plain == "as is"


def test_the_variable_itself_goes_before_its_file(env, tmp_path):
    (tmp_path / "url").write_text("redis://file:1")
    env(REDIS_URL="redis://variable:1", REDIS_URL_FILE=str(tmp_path / "url"))
    assert read_settings(CommonSettings).redis_url == "redis://variable:1"


@pytest.mark.parametrize(
    "content", [None, b"", b"\n", b"\xff\xfe", b"x" * (MAX_SECRET_FILE_BYTES + 1), b"not a url"]
)
def test_a_file_that_will_not_do_ends_with_2_and_names_the_variable(env, tmp_path, content):
    path = tmp_path / "url"
    if content is not None:
        path.write_bytes(content)
    env(REDIS_URL_FILE=str(path))
    with pytest.raises(Exit, match="REDIS_URL") as caught:
        read_settings(CommonSettings)
    assert caught.value.code == 2
    assert "not a url" not in caught.value.message


def test_a_single_variable_is_read_the_same_way(tmp_path):
    (tmp_path / "key").write_text("abc\n")
    assert read_variable("KEY", {"KEY_FILE": str(tmp_path / "key")}) == "abc"
    assert read_variable("KEY", {"KEY": "x", "KEY_FILE": "/none"}) == "x"
    assert read_variable("KEY", {}) is None


MAIL = {"SMTP_HOST": "mail.example.org", "SMTP_FROM": "a@example.org", "SMTP_TO": "b@example.org"}
WRONG_WAYS = [
    ({"WEBHOOK_URL": "hunter2"}, "WEBHOOK_URL"),
    ({"WEBHOOK_URL": "ftp://hunter2/x"}, "WEBHOOK_URL"),
    ({"WEBHOOK_URL": "https:///hunter2"}, "WEBHOOK_URL"),
    ({"WEBHOOK_URL": "https://host/hunter2\nx"}, "WEBHOOK_URL"),
    ({"WEBHOOK_URL": "https://host:0/hunter2"}, "WEBHOOK_URL"),
    ({"WEBHOOK_URL": "https://[::1/hunter2"}, "WEBHOOK_URL"),
    ({"WEBHOOK_SECRET": "whsec_hunter2!"}, "WEBHOOK_SECRET"),
    ({"WEBHOOK_SECRET": "whsec_"}, "WEBHOOK_SECRET"),
    ({"DEADMAN_URL": "redis://hunter2"}, "DEADMAN_URL"),
    ({"DEADMAN_INTERVAL_SEC": "0"}, "DEADMAN_INTERVAL_SEC"),
    ({**MAIL, "SMTP_FROM": ""}, "SMTP_FROM"),
    ({**MAIL, "SMTP_TO": ""}, "SMTP_TO"),
    ({**MAIL, "SMTP_TO": "b@example.org, hunter2"}, "SMTP_TO"),
    ({**MAIL, "SMTP_TO": "b@example.org\r\nBcc: hunter2@example.org"}, "SMTP_TO"),
    ({**MAIL, "SMTP_FROM": "@hunter2"}, "SMTP_FROM"),
    ({**MAIL, "SMTP_FROM": "a@hünter2.example"}, "SMTP_FROM"),
    ({**MAIL, "SMTP_TO": "hünter2@example.org"}, "SMTP_TO"),
    ({**MAIL, "SMTP_TLS": "hunter2"}, "SMTP_TLS"),
    ({**MAIL, "SMTP_PORT": "65536"}, "SMTP_PORT"),
    ({"SLACK_TOKEN": "xoxb-hunter2"}, "SLACK_CHANNEL"),
    ({"SLACK_TOKEN": "hunter2\nx", "SLACK_CHANNEL": "#ops"}, "SLACK_TOKEN"),
    ({"PAGERDUTY_ROUTING_KEY": "hunter2 x"}, "PAGERDUTY_ROUTING_KEY"),
    ({"ALERTMANAGER_URL": "hunter2"}, "ALERTMANAGER_URL"),
    ({"NTFY_URL": "hunter2"}, "NTFY_URL"),
    ({"NTFY_TOKEN": "ü hunter2"}, "NTFY_TOKEN"),
    ({"TELEGRAM_TOKEN": "hunter2"}, "TELEGRAM_CHAT"),
    ({"TELEGRAM_TOKEN": "hunter2\r\nx", "TELEGRAM_CHAT": "1"}, "TELEGRAM_TOKEN"),
    ({"PUSHOVER_TOKEN": "hunter2"}, "PUSHOVER_USER"),
]


@pytest.mark.parametrize(("values", "named"), WRONG_WAYS, ids=str)
def test_a_way_out_that_can_not_be_gone_is_named_and_its_value_is_not(env, values, named):
    env(**values)
    with pytest.raises(Exit) as caught:
        read_settings(SentinelSettings)
    assert caught.value.code == 2
    assert caught.value.message.startswith(f"{named}: ")
    assert ";" not in caught.value.message
    assert "hunter2" not in caught.value.message


def test_ways_out_may_all_be_named_or_none(env, tmp_path):
    none = read_settings(SentinelSettings)
    assert (none.webhook_url, none.smtp_host, none.deadman_url) == (None, None, None)
    assert (none.sentinel_direct_sec, none.deadman_interval_sec, none.smtp_tls) == (15.0, 60.0, "starttls")
    (tmp_path / "url").write_text("https://hooks.example.org/s3cret\n", encoding="utf-8")
    (tmp_path / "password").write_text("hunter2\n", encoding="utf-8")
    env(WEBHOOK_URL_FILE=str(tmp_path / "url"), SMTP_PASSWORD_FILE=str(tmp_path / "password"))
    (tmp_path / "secret").write_text("whsec_aHVudGVyMg==\n", encoding="utf-8")
    env(WEBHOOK_SECRET_FILE=str(tmp_path / "secret"))
    env(**{**MAIL, "SMTP_TO": "Öps <ops@example.org>, night@example.org", "SMTP_TLS": "TLS"})
    found = read_settings(SentinelSettings)
    assert found.webhook_secret.get_secret_value() == "whsec_aHVudGVyMg=="
    assert found.webhook_url == "https://hooks.example.org/s3cret"
    assert found.smtp_password.get_secret_value() == "hunter2"
    assert found.smtp_tls == "tls"
    assert "s3cret" not in repr(found)
    assert "hunter2" not in repr(found)
