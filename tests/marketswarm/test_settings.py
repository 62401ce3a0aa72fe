import pytest
from pydantic import SecretStr

from marketswarm.exit import Exit
from marketswarm.settings import FILE_LIMIT, Common, HealerSettings, SentinelSettings, read, variable


@pytest.fixture
def env(monkeypatch):
    for name in list(Common.model_fields) + list(HealerSettings.model_fields):
        monkeypatch.delenv(name.upper(), raising=False)
        monkeypatch.delenv(f"{name.upper()}_FILE", raising=False)
    return lambda **values: [monkeypatch.setenv(name, value) for name, value in values.items()]


class Secretive(Common):
    smtp_password: SecretStr | None = None
    plain: str = "as is"


def test_an_empty_environment_gives_the_defaults_of_the_contract(env):
    found = read(HealerSettings)
    assert (found.truth_redis_key, found.truth_wait_sec, found.bootstrap_timeout_sec) == (
        "truth:doc",
        30.0,
        60.0,
    )
    assert (found.default_timeout_sec, found.healer_lease_sec, found.log_level) == (30.0, 3.0, "INFO")
    assert found.redis_url is found.truth_redis_url is found.alert_channel is found.hb_interval_sec is None


def test_an_empty_variable_counts_as_not_set(env):
    env(TRUTH_REDIS_KEY="", TRUTH_WAIT_SEC="", REDIS_URL="")
    assert read(Common) == Common()


@pytest.mark.parametrize(
    ("written", "found"), [("debug", "DEBUG"), ("Warn", "WARNING"), (" ERROR ", "ERROR")]
)
def test_a_level_may_be_written_in_any_case(env, written, found):
    env(LOG_LEVEL=written)
    assert read(Common).log_level == found


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
]


@pytest.mark.parametrize(("name", "value"), WRONG)
def test_a_variable_that_does_not_parse_is_named_and_its_value_is_not_shown(env, name, value):
    env(**{name: value})
    with pytest.raises(Exit) as caught:
        read(Common)
    assert caught.value.code == 2
    assert name in caught.value.message
    assert "hunter2" not in caught.value.message
    assert value not in caught.value.message.replace("0", "")


def test_every_mistake_is_named_at_once(env):
    env(LOG_LEVEL="loud", SENTINEL_TIMEOUT_SEC="soon")
    with pytest.raises(Exit, match=r"LOG_LEVEL.*SENTINEL_TIMEOUT_SEC|SENTINEL_TIMEOUT_SEC.*LOG_LEVEL"):
        read(SentinelSettings)


def test_a_url_and_a_secret_may_come_from_a_file(env, tmp_path):
    (tmp_path / "url").write_text("redis://me:pw@host:1\n")
    (tmp_path / "password").write_text("secret \n")
    env(REDIS_URL_FILE=str(tmp_path / "url"), SMTP_PASSWORD_FILE=str(tmp_path / "password"))
    found = read(Secretive)
    assert found.redis_url == "redis://me:pw@host:1"
    assert found.smtp_password is not None
    assert found.smtp_password.get_secret_value() == "secret"
    assert "pw" not in repr(found)
    assert "secret" not in repr(found)


def test_what_bears_no_secret_has_no_twin(env, tmp_path):
    (tmp_path / "plain").write_text("from a file")
    env(PLAIN_FILE=str(tmp_path / "plain"))
    assert read(Secretive).plain == "as is"


def test_the_variable_itself_goes_before_its_file(env, tmp_path):
    (tmp_path / "url").write_text("redis://file:1")
    env(REDIS_URL="redis://variable:1", REDIS_URL_FILE=str(tmp_path / "url"))
    assert read(Common).redis_url == "redis://variable:1"


@pytest.mark.parametrize("content", [None, b"", b"\n", b"\xff\xfe", b"x" * (FILE_LIMIT + 1), b"not a url"])
def test_a_file_that_will_not_do_ends_with_2_and_names_the_variable(env, tmp_path, content):
    path = tmp_path / "url"
    if content is not None:
        path.write_bytes(content)
    env(REDIS_URL_FILE=str(path))
    with pytest.raises(Exit, match="REDIS_URL") as caught:
        read(Common)
    assert caught.value.code == 2
    assert "not a url" not in caught.value.message


def test_a_single_variable_is_read_the_same_way(tmp_path):
    (tmp_path / "key").write_text("abc\n")
    assert variable("KEY", {"KEY_FILE": str(tmp_path / "key")}) == "abc"
    assert variable("KEY", {"KEY": "x", "KEY_FILE": "/none"}) == "x"
    assert variable("KEY", {}) is None
