# ruff: noqa: E501 - the expected lines are exact; cut in two they could not be read
"""Each mistake a truth can hold, and the exact lines that are said about it.

Those in heartbeats and schedules are in test_check_heartbeats.py, those beside secrets in test_check_secrets.py.
"""

import pytest

from marketswarm.truth import TruthError, parse_truth
from support.truth_mistakes import beat, by_name, healer, hold_to_lines, one, point, raw

MISTAKES = [
    ("no object", "[]", ["truth: a list is not an object"]),
    ("a bare text", '"hunter2"', ["truth: text is not an object"]),
    ("no services", "{}", ["services: missing: an object, a section for each service"]),
    (
        "services misspelt",
        '{"servces": {}}',
        ['services: missing: an object, a section for each service (is "servces" meant to be it?)'],
    ),
    ("services a list", '{"services": []}', ["services: a list is not an object"]),
    ("a service null", '{"services": {"rss_agg": null}}', ["services.rss_agg: null is not an object"]),
    (
        "a version from the future",
        '{"version": 2, "services": {}}',
        ["version: 2 is not a version that is known here: write 1, or leave it out"],
    ),
    (
        "a version that is true",
        '{"version": true, "services": {}}',
        ["version: true is not a version that is known here: write 1, or leave it out"],
    ),
    (
        "a name with a space",
        '{"services": {"rss agg": {"heartbeat": {"channel": "x"}}}}',
        ['services["rss agg"]: "rss agg" is not a name: a letter, then up to 62 letters, digits or _ . -'],
    ),
    (
        "a name too long",
        '{"services": {"' + "a" * 64 + '": {}}}',
        [
            'services.aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa: "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa…" is not a name: a letter, then up to 62 letters, digits or _ . -'
        ],
    ),
    (
        "an empty name",
        '{"services": {"": {}}}',
        ['services[""]: "" is not a name: a letter, then up to 62 letters, digits or _ . -'],
    ),
    (
        "services called like a bus that is always there, and like one that is declared",
        {
            "buses": {"third": {"url": "redis://third:6379"}},
            "services": {"system-redis": {}, "third": {}, "rss_agg": {}},
        },
        [
            'services.system-redis: "system-redis" is the name of a bus: give the service another one',
            'services.third: "third" is the name of a bus: give the service another one',
        ],
    ),
    (
        "services called like the users that belong to no service",
        {"services": {"default": {}, "bootstrap": {}, "operator": {}, "join": {}, "joiner": {}}},
        [
            f'services.{user}: "{user}" is the name of a Redis user of another kind: give the service another one'
            for user in ("default", "bootstrap", "operator", "join")
        ],
    ),
    (
        "an access point with two mistakes",
        healer(access_points={"publish_to": [{"bus": "sytem-redis", "key": "a", "keys": "b"}]}),
        [
            'services.healer.access_points.publish_to[0].bus: "sytem-redis" is not a known bus (did you mean "system-redis"?)',
            'services.healer.access_points.publish_to[0].keys: is not a known key (did you mean "key"?)',
        ],
    ),
    (
        "a threshold key misspelt",
        healer(threshold={"heartbeat_cadance": 30}),
        [
            'services.healer.threshold.heartbeat_cadance: is not a known key (did you mean "heartbeat_cadence"?)'
        ],
    ),
    (
        "a cadence of zero",
        healer(threshold={"heartbeat_cadence": 0}),
        ["services.healer.threshold.heartbeat_cadence: 0 is not a positive number of seconds"],
    ),
    (
        "a bus timeout that is text",
        healer(threshold={"bus_timeout_sec": "10"}),
        ['services.healer.threshold.bus_timeout_sec: "10" is not a positive number of seconds'],
    ),
    (
        "a threshold that is a number",
        healer(threshold=30),
        ["services.healer.threshold: 30 is not an object"],
    ),
    (
        "an access_points key misspelt",
        healer(access_points={"subscribes_to": []}),
        ['services.healer.access_points.subscribes_to: is not a known key (did you mean "subscribe_to"?)'],
    ),
    (
        "a subscribe_to that is no list",
        healer(access_points={"subscribe_to": "rss_agg:heartbeat"}),
        ['services.healer.access_points.subscribe_to: "rss_agg:heartbeat" is not a list'],
    ),
    (
        "an access point that is text",
        healer(access_points={"subscribe_to": ["rss_agg:heartbeat"]}),
        ['services.healer.access_points.subscribe_to[0]: "rss_agg:heartbeat" is not an object'],
    ),
    (
        "an access point without bus and key",
        healer(access_points={"publish_to": [{}]}),
        [
            'services.healer.access_points.publish_to[0].bus: missing: the name of a bus, such as "system-redis"',
            'services.healer.access_points.publish_to[0].key: missing: the name of a key or channel, such as "rss_agg:heartbeat"',
        ],
    ),
    (
        "an access point with a key too many",
        healer(access_points={"publish_to": [{"bus": "system-redis", "key": "healer:alerts", "keys": "x"}]}),
        ['services.healer.access_points.publish_to[0].keys: is not a known key (did you mean "key"?)'],
    ),
    (
        "an access point on an unknown bus",
        healer(access_points={"publish_to": [point("sytem-redis", "healer:alerts")]}),
        [
            'services.healer.access_points.publish_to[0].bus: "sytem-redis" is not a known bus (did you mean "system-redis"?)'
        ],
    ),
    (
        "subscribe_to on another bus than the heartbeat",
        healer(access_points={"subscribe_to": [point("market-redis", "rss_agg:heartbeat")]}),
        [
            'services.healer.access_points.subscribe_to[0].bus: "market-redis", but services.rss_agg.heartbeat puts "rss_agg:heartbeat" on "system-redis"'
        ],
    ),
    (
        "subscribe_to on two buses",
        healer(
            access_points={
                "subscribe_to": [
                    point("market-redis", "other:heartbeat"),
                    point("system-redis", "other:heartbeat"),
                ]
            }
        ),
        [
            'services.healer.access_points.subscribe_to[1].bus: "system-redis", but "other:heartbeat" is on "market-redis" above'
        ],
    ),
    (
        "subscribe_to names no possible service",
        healer(access_points={"subscribe_to": [point("system-redis", "1st:heartbeat")]}),
        [
            'services.healer.access_points.subscribe_to[0].key: "1st", before ":heartbeat", is not a service\'s name'
        ],
    ),
    (
        "a point wrong beside one that clashes",
        healer(
            access_points={
                "subscribe_to": [point(7, "a:heartbeat"), point("market-redis", "rss_agg:heartbeat")]
            }
        ),
        [
            'services.healer.access_points.subscribe_to[0].bus: 7 is not the name of a bus, such as "system-redis"',
            'services.healer.access_points.subscribe_to[1].bus: "market-redis", but services.rss_agg.heartbeat puts "rss_agg:heartbeat" on "system-redis"',
        ],
    ),
    (
        "mistakes everywhere",
        {
            "version": 3,
            "services": {
                "rss_agg": {
                    "heartbeat": {"interval_sec": -5, "chanel": "x"},
                    "depends_on": ["mesh"],
                    "settings": {"token": "hunter2"},
                },
                "healer": {
                    "threshold": {"heartbeat_cadence": "30"},
                    "access_points": {"subscribe_to": [point("market-redis", "rss_agg:heartbeat")]},
                },
            },
            "buses": {"cache": {"url": "cache:6379"}},
        },
        [
            "version: 3 is not a version that is known here: write 1, or leave it out",
            "services.rss_agg.heartbeat.interval_sec: -5 is not a positive number of seconds",
            'services.rss_agg.heartbeat.chanel: is not a known key (did you mean "channel"?)',
            'services.rss_agg.depends_on[0]: "mesh" is not a known service (known: rss_agg, healer)',
            'services.rss_agg.settings.token: a secret in plain text: write "env:NAME" here and set NAME in the environment',
            'services.healer.threshold.heartbeat_cadence: "30" is not a positive number of seconds',
            'services.healer.access_points.subscribe_to[0].bus: "market-redis", but services.rss_agg.heartbeat puts "rss_agg:heartbeat" on "system-redis"',
            'buses.cache.url: "cache:6379" is not a Redis URL, such as "redis://system-redis:6379"',
        ],
    ),
    (
        "a bus that is text",
        {"buses": {"cache": "redis://cache:6379"}, "services": {}},
        ['buses.cache: "redis://cache:6379" is not an object'],
    ),
    (
        "a bus key misspelt",
        {"buses": {"cache": {"uri": "redis://cache:6379"}}, "services": {}},
        ['buses.cache.uri: is not a known key (did you mean "url"?)'],
    ),
    (
        "a bus name that no variable can have",
        {"buses": {"my.cache": {}}, "services": {}},
        ['buses["my.cache"]: "my.cache" is not a name: a letter, then up to 62 letters, digits or _ -'],
    ),
    ("buses a list", {"buses": ["system-redis"], "services": {}}, ["buses: a list is not an object"]),
    (
        "two services on one channel",
        {
            "services": {
                "a": {"heartbeat": {"channel": "beat"}},
                "b": {"heartbeat": {"channel": "beat"}},
                "c": {"heartbeat": {"channel": "beat"}},
            }
        },
        [
            'services.b.heartbeat.channel: "beat" is already the channel of services.a: one each',
            'services.c.heartbeat.channel: "beat" is already the channel of services.a: one each',
        ],
    ),
    (
        "a channel that is another's by default",
        {"services": {"a": {}, "b": {"heartbeat": {"channel": "a:heartbeat"}}}},
        ['services.b.heartbeat.channel: "a:heartbeat" is already the channel of services.a: one each'],
    ),
    (
        "depends_on unknown",
        {"services": {"vexy_ai": {"depends_on": ["mash"]}, "mesh": {}}},
        ['services.vexy_ai.depends_on[0]: "mash" is not a known service (did you mean "mesh"?)'],
    ),
    (
        "depends_on itself",
        one(depends_on=["rss_agg"]),
        ['services.rss_agg.depends_on[0]: "rss_agg" depends on itself'],
    ),
    (
        "depends_on in a circle",
        {
            "services": {
                "a": {"depends_on": ["b"]},
                "b": {"depends_on": ["c"]},
                "c": {"depends_on": ["a"]},
                "d": {"depends_on": ["a"]},
            }
        },
        ['services.a.depends_on: circular: "a" → "b" → "c" → "a"'],
    ),
    (
        "two circles",
        {
            "services": {
                "a": {"depends_on": ["b"]},
                "b": {"depends_on": ["a"]},
                "c": {"depends_on": ["d"]},
                "d": {"depends_on": ["c"]},
            }
        },
        [
            'services.a.depends_on: circular: "a" → "b" → "a"',
            'services.c.depends_on: circular: "c" → "d" → "c"',
        ],
    ),
    ("depends_on a number", one(depends_on=[3]), ["services.rss_agg.depends_on[0]: 3 is not text"]),
    ("depends_on text", one(depends_on="mesh"), ['services.rss_agg.depends_on: "mesh" is not a list']),
    ("tags that are text", one(tags="ingest"), ['services.rss_agg.tags: "ingest" is not a list']),
    (
        "a severity misspelt",
        one(severity="Critcal"),
        ['services.rss_agg.severity: "Critcal" is not a severity (did you mean "critical"?)'],
    ),
    (
        "a severity that nobody knows",
        one(severity="high"),
        ['services.rss_agg.severity: "high" is not a severity (known: info, warning, critical)'],
    ),
    (
        "a severity that is a number",
        one(severity=1),
        ["services.rss_agg.severity: 1 is not a severity (known: info, warning, critical)"],
    ),
    (
        "a severity that is null",
        one(severity=None),
        ["services.rss_agg.severity: null is not a severity (known: info, warning, critical)"],
    ),
    *(
        (
            f"replicas that are {what}",
            one(replicas=value),
            [f"services.rss_agg.replicas: {shown} is not a number of processes from 1 to 100"],
        )
        for what, value, shown in (
            ("none at all", 0, "0"),
            ("below zero", -3, "-3"),
            ("too many", 101, "101"),
            ("a half", 1.5, "1.5"),
            ("text", "3", '"3"'),
            ("true", True, "true"),
            ("a list", [3], "a list"),
        )
    ),
    (
        "replicas and a severity, both wrong",
        one(replicas=0, severity="high"),
        [
            "services.rss_agg.replicas: 0 is not a number of processes from 1 to 100",
            'services.rss_agg.severity: "high" is not a severity (known: info, warning, critical)',
        ],
    ),
    (
        "a description that is a list",
        one(description=["x"]),
        ["services.rss_agg.description: a list is not text"],
    ),
    (
        "endpoints that are an object",
        one(endpoints={}),
        ["services.rss_agg.endpoints: an object is not a list"],
    ),
    ("settings that are a list", one(settings=[]), ["services.rss_agg.settings: a list is not an object"]),
    (
        "a key given twice",
        '{"services": {"rss_agg": {"heartbeat": {"interval_sec": 5, "interval_sec": 6}}}}',
        ["services.rss_agg.heartbeat.interval_sec: given twice: keep one"],
    ),
    (
        "a service given twice",
        '{"services": {"rss_agg": {}, "rss_agg": {}}}',
        ["services.rss_agg: given twice: keep one"],
    ),
    (
        "a number that is not finite among settings",
        '{"services": {"rss_agg": {"settings": {"a": [1, -Infinity]}}}}',
        ["services.rss_agg.settings.a[1]: -Infinity is not a finite number"],
    ),
    (
        "half a surrogate pair",
        r'{"services": {"rss_agg": {"description": "\ud800", "settings": {"\udfff": 1}}}}',
        [
            "services.rss_agg.description: holds half a surrogate pair, which is not text",
            'services.rss_agg.settings["\\udfff"]: the key holds half a surrogate pair, which is not text',
        ],
    ),
    (
        "control characters in a name",
        r'{"services": {"a\u001b[31m": {}}}',
        [
            'services["a\\u001b[31m"]: "a\\u001b[31m" is not a name: a letter, then up to 62 letters, digits or _ . -'
        ],
    ),
    (
        "nested too deep",
        '{"services": {"rss_agg": {"settings": ' + '{"a":' * 32 + "1" + "}" * 32 + "}}}",
        [
            "services.rss_agg.settings.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a: nested deeper than 32 levels"
        ],
    ),
    ("nested without end", "[" * 100000, ["truth: nested deeper than 32 levels"]),
    ("nothing", "", ["truth: empty: there must be a JSON object"]),
    ("a byte order mark", "\ufeff{}", ["truth: begins with a byte order mark: save it as UTF-8 without one"]),
]

DOUBTS = [
    (
        "a service's key misspelt",
        one(hartbeat={}),
        ['services.rss_agg.hartbeat: is not a known key (did you mean "heartbeat"?)'],
    ),
    (
        "severity misspelt",
        one(severty="info"),
        ['services.rss_agg.severty: is not a known key (did you mean "severity"?)'],
    ),
    (
        "a key of the document that nobody knows",
        {"services": {"a": {}}, "comment": "x"},
        ["comment: is not a known key (known: services, buses, version, fleet)"],
    ),
    ("no service at all", {"services": {}}, ["services: names no service"]),
    (
        "a timeout below three intervals",
        beat(interval_sec=10, timeout_sec=29),
        [
            "services.rss_agg.heartbeat.timeout_sec: 29 is below 3 times interval_sec (10): one late beat is an alarm; write 30 or more"
        ],
    ),
    ("a job with an interval and a grace", beat(interval_sec=300, timeout_sec=301), []),
    (
        "an interval above a third of the cadence",
        {
            "services": {
                "rss_agg": {"heartbeat": {"interval_sec": 20}},
                "healer": {"threshold": {"heartbeat_cadence": 45}},
            }
        },
        [
            "services.rss_agg.heartbeat.interval_sec: the timeout of 45, from services.healer.threshold.heartbeat_cadence, is below 3 times interval_sec (20): one late beat is an alarm; write 15 or less, or a timeout_sec beside it"
        ],
    ),
    (
        "a subscription that is no heartbeat",
        healer(access_points={"subscribe_to": [point("system-redis", "rss_agg:heartbeats")]}),
        [
            'services.healer.access_points.subscribe_to[0].key: "rss_agg:heartbeats" is no service\'s channel and does not end in ":heartbeat": not watched (did you mean "rss_agg:heartbeat"?)'
        ],
    ),
    (
        "a subscription to a channel that its service left",
        {
            "services": {
                "rss_agg": {"heartbeat": {"channel": "rss:beats"}},
                "healer": {"access_points": {"subscribe_to": [point("system-redis", "rss_agg:heartbeat")]}},
            }
        },
        [
            'services.healer.access_points.subscribe_to[0].key: "rss_agg:heartbeat" is not watched: rss_agg beats on "rss:beats"'
        ],
    ),
]


@by_name(MISTAKES)
def test_a_mistake_is_told_with_its_path_and_what_would_be_right_and_shows_no_secret(document, lines):
    hold_to_lines(document, lines)


@by_name(DOUBTS)
def test_a_doubt_is_told_and_the_document_accepted(document, lines):
    assert [str(warning) for warning in parse_truth(raw(document)).warnings] == lines


@pytest.mark.parametrize(
    "text", ['{"services": {', '{"services": {},}', "{'services': {}}", "nonsense", "{}{}", "\x00"]
)
def test_what_is_no_json_is_told_with_line_and_column(text):
    with pytest.raises(TruthError, match=r"^truth: not JSON: .*\(line 1, column \d+\)$"):
        parse_truth(text.encode())


def test_what_is_no_utf8_is_told_with_its_place():
    with pytest.raises(TruthError, match=r"^truth: not UTF-8: byte 2 is no text$"):
        parse_truth(b'{"\xff": 1}')


def test_the_lines_come_in_the_order_of_the_document():
    last_first = {"buses": {"cache": {"uri": 1}}, "services": {"b": {"heartbeat": 1}, "a": {"heartbeat": 1}}}
    with pytest.raises(TruthError) as caught:
        parse_truth(raw(last_first))
    assert [problem.path for problem in caught.value.problems] == [
        "buses.cache.uri",
        "services.b.heartbeat",
        "services.a.heartbeat",
    ]
