# ruff: noqa: E501 - the expected lines are exact; cut in two they could not be read
"""URLs and other keys of a truth that hold a secret: what is wrong with them, said without it."""

from support.truth_mistakes import beat, by_name, hold_to_lines, one

MISTAKES = [
    (
        "a URL of another kind",
        beat(redis_url="http://system-redis:6379"),
        [
            'services.rss_agg.heartbeat.redis_url: "http://system-redis:6379" is not a Redis URL, such as "redis://system-redis:6379"'
        ],
    ),
    (
        "a URL without a host",
        beat(redis_url="redis://:6379"),
        [
            'services.rss_agg.heartbeat.redis_url: "redis://***" is not a Redis URL, such as "redis://system-redis:6379"'
        ],
    ),
    (
        "a URL with a port that is none",
        beat(redis_url="redis://h:99999"),
        [
            'services.rss_agg.heartbeat.redis_url: "redis://h:99999" is not a Redis URL, such as "redis://system-redis:6379"'
        ],
    ),
    (
        "a URL with spaces",
        beat(redis_url="redis://h :6379"),
        [
            'services.rss_agg.heartbeat.redis_url: "redis://***" is not a Redis URL, such as "redis://system-redis:6379"'
        ],
    ),
    (
        "a password in the URL",
        beat(redis_url="redis://:hunter2@cache:6379"),
        [
            'services.rss_agg.heartbeat.redis_url: a password or key in a URL: write "env:NAME" here and set NAME to the whole URL in the environment'
        ],
    ),
    (
        "a user and password in the URL",
        beat(redis_url="rediss://me:hun/ter2@cache:6379/0"),
        [
            'services.rss_agg.heartbeat.redis_url: a password or key in a URL: write "env:NAME" here and set NAME to the whole URL in the environment',
            'services.rss_agg.heartbeat.redis_url: "rediss://***" is not a Redis URL, such as "redis://system-redis:6379"',
        ],
    ),
    (
        "a password in the URL's query",
        beat(redis_url="redis://cache:6379?password=hunter2"),
        [
            'services.rss_agg.heartbeat.redis_url: a password or key in a URL: write "env:NAME" here and set NAME to the whole URL in the environment'
        ],
    ),
    (
        "a password in a bus's URL",
        {"buses": {"cache": {"url": "redis://x:hunter2@h"}}, "services": {}},
        [
            'buses.cache.url: a password or key in a URL: write "env:NAME" here and set NAME to the whole URL in the environment'
        ],
    ),
    (
        "a password in a feed's URL",
        one(endpoints=[{"url": "https://me:hunter2@example.org/rss"}]),
        [
            'services.rss_agg.endpoints[0].url: a password or key in a URL: write "env:NAME" here and set NAME to the whole URL in the environment'
        ],
    ),
    (
        "a key in a feed's URL",
        one(endpoints=[{"url": "https://example.org/rss?lang=en&api_key=hunter2"}]),
        [
            'services.rss_agg.endpoints[0].url: a password or key in a URL: write "env:NAME" here and set NAME to the whole URL in the environment'
        ],
    ),
    (
        "secrets under many keys",
        one(
            settings={
                "password": "hunter2",
                "smtpPassword": "hunter2",
                "API_KEY": "hunter2",
                "api-key": "hunter2",
                "client_secret": "hunter2",
                "auth": {"access_token": "hunter2"},
                "tokens": ["hunter2"],
                "pin": 1,
                "password_2": "hunter2",
                "db_password": 1234,
            }
        ),
        [
            'services.rss_agg.settings.password: a secret in plain text: write "env:NAME" here and set NAME in the environment',
            'services.rss_agg.settings.smtpPassword: a secret in plain text: write "env:NAME" here and set NAME in the environment',
            'services.rss_agg.settings.API_KEY: a secret in plain text: write "env:NAME" here and set NAME in the environment',
            'services.rss_agg.settings.api-key: a secret in plain text: write "env:NAME" here and set NAME in the environment',
            'services.rss_agg.settings.client_secret: a secret in plain text: write "env:NAME" here and set NAME in the environment',
            'services.rss_agg.settings.auth.access_token: a secret in plain text: write "env:NAME" here and set NAME in the environment',
            'services.rss_agg.settings.tokens[0]: a secret in plain text: write "env:NAME" here and set NAME in the environment',
            'services.rss_agg.settings.password_2: a secret in plain text: write "env:NAME" here and set NAME in the environment',
            'services.rss_agg.settings.db_password: a secret in plain text: write "env:NAME" here and set NAME in the environment',
        ],
    ),
    (
        "a secret inside a secret's object",
        one(settings={"secrets": {"polygon": "hunter2", "pin": 1234}}),
        [
            'services.rss_agg.settings.secrets.polygon: a secret in plain text: write "env:NAME" here and set NAME in the environment',
            'services.rss_agg.settings.secrets.pin: a secret in plain text: write "env:NAME" here and set NAME in the environment',
        ],
    ),
    (
        "an env form that is none",
        one(settings={"api_key": "env:not a name"}),
        [
            'services.rss_agg.settings.api_key: a secret in plain text: write "env:NAME" here and set NAME in the environment'
        ],
    ),
    (
        "a secret among the services",
        '{"services": {"password": "hunter2"}}',
        [
            'services.password: a secret in plain text: write "env:NAME" here and set NAME in the environment',
            "services.password: the value is not an object",
        ],
    ),
    (
        "a secret under a heartbeat",
        one(heartbeat={"token": "hunter2"}),
        [
            'services.rss_agg.heartbeat.token: a secret in plain text: write "env:NAME" here and set NAME in the environment',
            "services.rss_agg.heartbeat.token: is not a known key (known: channel, interval_sec, redis_url, timeout_sec, monitored, schedule, time_zone, grace_sec, max_run_sec)",
        ],
    ),
    (
        "a mistake in a service that is named after a secret",
        {"services": {"token_maker": {"heartbeat": {"interval_sec": "10"}}}},
        ['services.token_maker.heartbeat.interval_sec: "10" is not a positive number of seconds'],
    ),
    (
        "a password in a key",
        one(settings={"redis://me:hunter2@h": 1}),
        [
            'services.rss_agg.settings["redis://***"]: the key is a password or key in a URL: write "env:NAME" here and set NAME to the whole URL in the environment'
        ],
    ),
]


@by_name(MISTAKES)
def test_a_mistake_beside_a_secret_is_told_and_the_secret_is_not(document, lines):
    hold_to_lines(document, lines)
