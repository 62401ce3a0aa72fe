"""No secret leaves the fleet in a bundle, and what is no secret can be read in it."""

import contextlib
import json
import os
import random
import time
from dataclasses import replace

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import SecretStr

from marketswarm.operator.healing import EntryKind, TimelineEntry
from marketswarm.redactor import LEFT_OUT, MAX_TEXT, Redactor, list_secrets
from marketswarm.secret_rules import REMOVED, RULES, fold_case
from marketswarm.truth.diff import diff_truths, format_changes
from marketswarm.truth.errors import TruthError
from marketswarm.truth.parse import parse_truth
from services.medic.diagnosis.bundle import DiagnosisEvidence, make_bundle
from services.medic.facts import FleetFacts, Health, TargetFacts
from services.medic.remedies import Remedy
from support.examples import examples
from support.hostile_repetitions import find_superlinear, list_hostile
from support.planted_secrets import KINDS, plant
from support.simulation.patient import Patient

BLOCKS = ("logs", "source", "commits")
COUNT = examples(2500)  # 500 in `make test`


def escalated():
    patient = Patient(restart_helps=False)
    patient.look(2)
    patient.die()
    patient.look(300)
    return patient.planner.repairs["feed"]


def bundle_of(evidence, redactor=None):
    target = TargetFacts(svc="feed", health=Health.DOWN, depends_on=("market-gate",))
    facts = FleetFacts(
        {"feed": target, "mesh": TargetFacts(svc="mesh", health=Health.UP, depends_on=("feed",))}
    )
    return make_bundle(
        escalated(), "escalated", facts, evidence, known=Remedy, redact=(redactor or Redactor()).redact
    ).decode()


def split(lines, size):
    return [lines[at : at + size] for at in range(0, len(lines), size)]


def make_truth(text):
    return parse_truth(orjson.dumps({"services": {"feed": {"description": text}}})).truth


def changes_of(lines):
    """What the difference of two truths shows of secrets in them, where a truth takes one."""
    found = []
    for line in lines:
        with contextlib.suppress(TruthError):
            found += format_changes(diff_truths(make_truth("old"), make_truth(line)))
    return found


@pytest.mark.slow
def test_of_500_planted_secrets_of_40_kinds_none_is_left_in_a_bundle():
    assert len(KINDS) >= 40
    planted = plant(1, COUNT)
    lines = [each.line for each in planted]
    random.Random(1).shuffle(lines)
    entries = [
        TimelineEntry(incident="feed.1", ts=1.0, svc="feed", what=EntryKind.ACTED, text=line[:300])
        for line in lines[:50]
    ]
    changes = changes_of(lines)
    assert changes, "the truth takes some of them"
    found = [
        bundle_of(
            DiagnosisEvidence(entries, lines[:50], changes[:50], **dict.fromkeys(BLOCKS, "\n".join(some)))
        )
        for some in split(lines, 20)
    ] + [bundle_of(DiagnosisEvidence(notes=some, changes=some)) for some in split(lines, 50)]
    text = "\n".join(found)
    assert text.count(REMOVED) >= COUNT
    assert [(each.kind, each.line) for each in planted for part in each.parts if part in text] == []


def quote(line):
    """A line as a difference of two truths shows it."""
    return orjson.dumps(line).decode()


def quote_signs(line):
    """The same with every sign that is no letter and no digit quoted, as some writers of JSON do."""
    return "".join(sign if sign.isalnum() or ord(sign) > 126 else f"\\u{ord(sign):04x}" for sign in line)


@pytest.mark.parametrize("seed", range(2, 6))
@pytest.mark.parametrize("show", [str, quote, quote_signs])
def test_no_seed_has_a_secret_that_is_left(seed, show):
    redactor = Redactor()
    left = [
        (each.kind, show(each.line))
        for each in plant(seed, COUNT)
        if any(part in redactor.redact(show(each.line)) for part in each.parts)
    ]
    assert left == []


READABLE = [
    "2026-11-26T02:14:23.123Z rss_agg ERROR heartbeat_miss after 31.2 s on market-redis (127.0.0.1:6379)",
    '  File "/usr/lib/python3.13/site-packages/redis/asyncio/connection.py", line 295, in connect',
    "redis.exceptions.ConnectionError: Error 111 connecting to 10.0.0.5:6379. Connection refused.",
    'FATAL: password authentication failed for user "ann"',
    "ssl.SSLCertVerificationError: certificate has expired; token: expired; max_tokens: 4000",
    "refused restart: owner_restarts; incident rss_agg.1795400736319",
    "services.market.database.read_rows_between(); retry 3 of 5; reason=auth_failed code=401 took 0.31 s",
    "~ mesh: heartbeat.interval_sec 10 → 5",
    "b34d570f 2026-11-26T02:14:23+00:00 medic: rules are measured after a clock was set back",
    "GET https://api.example.org/v2/bars?symbol=AAPL&limit=500 → 503",
    "xadd id 1795400736319-0 refused: OOM command not allowed when used memory > 'maxmemory'",
    "BOOTSTRAP_TIMEOUT_SEC=60 NOTIFIER_LEASE_SEC=3 host=db user=ann dbname=market",
    "password: expired",
    "password: env:SMTP_PASSWORD",
    '{"password": null, "db_password":"", "passwd": false}',
    "login failed: password=None, retries=3",
    "the token is expired, sorry",
    "bypass=1, compass: north; connect('10.0.0.5', 6379) to db",
    "login failed for ann at 02:14; passwd file changed; keys=[1, 2, 3]",
    "INSERT INTO bars(symbol,close) VALUES ('AAPL', 101.5)",
    "connecting to redis://cache:6379 as ann at host",
    "auth.py",
    "logged to /var/log/marketswarm/rss_agg.log.1 at 12:00",
    "https%3A%2F%2Fexample.org%2Ffeed",
    "see commit b34d570f\n2026-11-26T02:14:23+00:00 medic is up",
    "the value of name is 5; value: 3, name: bars",
]


@pytest.mark.parametrize("line", READABLE)
def test_names_times_reasons_and_sentences_stay(line):
    assert Redactor().redact(line) == line


def test_what_is_around_a_secret_stays():
    said = Redactor().redact("02:14 feed can't reach postgres://ann:hunter2@db.test:5432/market: timeout")
    assert said == f"02:14 feed can't reach postgres://{REMOVED}@db.test:5432/market: timeout"


def test_a_private_key_whose_first_lines_are_missing_is_removed():
    said = Redactor().redact("ok.\nabCD12==\nEFgh\n-----END RSA PRIVATE KEY-----\nnext")
    assert ("abCD12" in said, "EFgh" in said, said.endswith("next"), said.startswith("ok.")) == (
        False,
        False,
        True,
        True,
    )


def test_values_of_our_own_environment_are_removed_whatever_they_look_like():
    environ = {
        "POLYGON_API_KEY": "plain words",
        "REDIS_URL": "redis://:sesame%21@x:1",
        "PATH": "/usr/bin",
        "A": "b",
    }
    assert list_secrets(environ, None) == ["plain words", "sesame%21", "sesame!"]
    said = Redactor(list_secrets(environ, None)).redact("said plain words, then sesame! in /usr/bin")
    assert said == f"said {REMOVED}, then {REMOVED} in /usr/bin"


def write(folder, name, text):
    path = folder / name
    path.write_text(text)
    return str(path)


def test_values_of_our_own_environment_that_stand_in_files_are_removed_too(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    environ = {
        "SYSTEM_REDIS_URL_FILE": write(tmp_path, "a", "redis://:sesame%21@x:1\n"),
        "SMTP_PASSWORD_FILE": write(tmp_path, "b", "kite,horse\n"),
        "MEDIC_DIAGNOSIS_KEY_FILE": write(tmp_path, "c", "plain words"),
        "NOTES_FILE": write(tmp_path, "d", "a text"),
        "EMPTY_KEY_FILE": write(tmp_path, "e", ""),
        "MISSING_KEY_FILE": str(tmp_path / "missing"),
        "PIPE_KEY_FILE": str(tmp_path / "pipe"),
        "LONG_KEY_FILE": "/" + "x" * 5000,
        "NUL_KEY_FILE": "/a\0b",
        "OTHER_KEY": "the value",
        "OTHER_KEY_FILE": write(tmp_path, "f", "is not read"),
        "TRUTH_REDIS_KEY_FILE": write(tmp_path, "g", "truth:doc"),
    }
    secrets = list_secrets(environ, SecretStr("the key"))
    assert secrets == ["the key", "sesame%21", "sesame!", "kite,horse", "plain words", "the value"]
    said = Redactor(secrets).redact("said kite,horse and sesame!, then plain words")
    assert said == f"said {REMOVED} and {REMOVED}, then {REMOVED}"


def test_the_name_of_the_key_of_the_truth_is_no_secret():
    environ = {"TRUTH_REDIS_KEY": "truth:doc", "AZURE_REDIS_KEY": "sesame"}
    assert list_secrets(environ) == ["sesame"]


@pytest.mark.parametrize("secret", ['p"ss\\word', "a\\nb77x", "it's\"x77", "Schlüssel", 'x"y z\\"w'])
def test_a_known_secret_is_found_however_often_its_text_was_quoted(secret):
    text = f"said {secret} twice"
    redactor = Redactor([secret])
    assert redactor.redact(text) == f"said {REMOVED} twice"
    assert redactor.redact(repr(text)).strip("'\"") == f"said {REMOVED} twice"
    for write_json in (quote, json.dumps):
        shown = text
        for _ in range(3):
            shown = write_json(shown)
            assert redactor.redact(shown).strip('"') == f"said {REMOVED} twice"


@pytest.mark.parametrize(
    ("text", "rest"),
    [
        ("DB_PASSWORD=kite,horse77 x", "DB_PASSWORD={} x"),
        ("DB_PASS=k;horse77)x'y]z}& x", "DB_PASS={} x"),
        ('PGPASSWORD=ki"te77 psql', "PGPASSWORD={} psql"),
        ("GET /a?password=kite,horse;77&b=1", "GET /a?password={}&b=1"),
        ("db_passwd=kite&horse77 x", "db_passwd={} x"),
        ('{"msg":"DB_PASSWORD=kite,77","svc":"feed"}', '{"msg":"DB_PASSWORD={}","svc":"feed"}'),
        ("app password: abcd efgh ijkl mnop", "app password: {}"),
        ("smtp_pass = kite horse 77", "smtp_pass = {}"),
        ("passcode: 12 34", "passcode: {}"),
        ("passphrase: no way, horse", "passphrase: {}"),
        ("password: on,horse77", "password: {}"),
        ("password: null horse", "password: {}"),
        ("SMTP_PASSWORD=abcd efgh ijkl mnop set", "SMTP_PASSWORD={} set"),
        ("the app password for ann is abcd efgh ijkl mnop, since", "the app password for ann is {}, since"),
        ('{"msg":"password: kite horse","svc":"feed"}', '{"msg":"password: {}","svc":"feed"}'),
        ('{"password":12345,"svc":"feed"}', '{"password":{},"svc":"feed"}'),
        ('{"password": null, "db_password": "kite"}', '{"password": null, "db_password": {}}'),
        ('{"password": "p\\"ss w\\\\rd7", "svc": "feed"}', '{"password": {}, "svc": "feed"}'),
        ("password: kite horse\nnext", "password: {}\nnext"),
        ("the password is kite,horse77 now", "the password is {} now"),
    ],
)
def test_a_password_with_spaces_or_signs_is_removed_whole(text, rest):
    assert Redactor().redact(text) == rest.replace("{}", REMOVED)


SURVIVED = [
    ("DBPASS=hunter7", "hunter7"),
    ("MYSQLPASS: hunter7", "hunter7"),
    ("userpass=hunter7 x", "hunter7"),
    ("dbpw=hunter7 x", "hunter7"),
    ("get(url, auth=('bob', 'hunter7'), timeout=3)", "hunter7"),
    ("requests.get(u, auth=(USER, 'hunter7'))", "hunter7"),
    ("credentials=('bob', 'hunter7')", "hunter7"),
    ('credentials = ["bob", "hunter7"]', "hunter7"),
    ("HTTPBasicAuth('bob', 'hunter7')", "hunter7"),
    ("curl -uadmin:hunter7 https://x.test", "hunter7"),
    ("typed passwd hunter9", "hunter9"),
    ('psk="hunter seven"', "hunter seven"),
    ("wpa_psk=hunter", "hunter"),
    ("jdbc:oracle:thin:scott/tiger@db:1521/x", "tiger"),
    ('argv ["password","hunter"]', "hunter"),
    ("set('db_password', 'hunter')", "hunter"),
    ('{"value":"hunter","name":"DB_PASSWORD"}', "hunter"),
    ("INSERT INTO users(name,password) VALUES ('bob','hunter')", "hunter"),
    ("INSERT INTO users (\"name\", \"api_key\") VALUES ('bob', 'hunter')", "hunter"),
    ("SecretStr('hunter')", "hunter"),
    ("conn = connect('db','root','hunter')", "hunter"),
    ("client.login('bob', 'hunter')", "hunter"),
    ("db:\n  password: |\n    hunter\n    seven kites\nport: 1", "hunter", "seven"),
    ("password: >-\n  hunter\n", "hunter"),
    ("run tool --password \\\n    hunter --fast", "hunter"),
    ("export DB_PASSWORD=\\\nhunter", "hunter"),
    ("password:\n  hunter", "hunter"),
    ("with ghp_abcDEF123456789\nGHIjkl0123456789abcd", "GHIjkl0123"),
    ("postgres://bob:hunter seven@db.test/x", "hunter", "seven"),
    ("url=redis%3A%2F%2F%3Ahunter%40cache", "hunter"),
    ("*2\\r\\n$4\\r\\nAUTH\\r\\n$6\\r\\nhunter\\r\\n", "hunter"),
    ("*3\r\n$4\r\nAUTH\r\n$3\r\nbob\r\n$6\r\nhunter\r\n", "hunter"),
    ("Passwort: hunter", "hunter"),
    ("contraseña=hunter", "hunter"),
    ("mot de passe : hunter", "hunter"),
    ("pass\u200bword=hunter", "hunter"),
    ("to\u2060ken: hunter", "hunter"),
]
"""Forms of which none was known at first: each a text, and what may not be left of it."""


@pytest.mark.parametrize(("text", "parts"), [(each[0], each[1:]) for each in SURVIVED])
def test_forms_of_secrets_that_people_log_are_removed(text, parts):
    """Also as they stand in a line of JSON, and among other lines."""
    redactor = Redactor()
    for shown in (text, quote(text), f"before it\n{text}\nafter it"):
        said = redactor.redact(shown)
        assert [part for part in parts if part in said] == [], said
    assert (said.startswith("before it"), said.endswith("after it")) == (True, True)


def test_a_known_secret_that_is_split_over_two_lines_is_removed():
    said = Redactor(["kite-horse-77"]).redact("it says kite-ho\n   rse-77 at the end\nnext")
    assert said == f"it says {REMOVED} at the end\nnext"


def test_a_text_of_several_lines_in_yaml_ends_with_the_next_key():
    said = Redactor().redact("a:\n  password: |\n    kite\n\n    horse\n  port: 6379\nb: x")
    assert said == f"a:\n  password: {REMOVED}\n    {REMOVED}\n\n    {REMOVED}\n  port: 6379\nb: x"


def test_a_private_key_hides_what_is_in_it_and_nothing_after_its_end():
    body = "\n".join(f"2026-11-27 svc | {'Ab1/' * 16}" for _ in range(200))
    for begin, end in (
        ("-----BEGIN RSA PRIVATE KEY-----", "-----END RSA PRIVATE KEY-----"),
        ("PuTTY-User-Key-File-2: ssh-rsa", "Private-MAC: 00ff"),
    ):
        said = Redactor().redact(f"first\n{begin}\n{body}\n{end}\nlast", 64_000)
        assert said == f"first\n{REMOVED}\nlast"
        assert Redactor().redact(f"first\n{begin}\n{body}", 64_000) == f"first\n{REMOVED}"
    long = Redactor().redact(
        "a -----BEGIN PRIVATE KEY-----" + "Ab1/" * 5000 + "-----END PRIVATE KEY-----\nlast", 64_000
    )
    assert (long.startswith("a "), long.endswith("\nlast"), "Ab1/" in long) == (True, True, False)


@pytest.mark.slow
@pytest.mark.parametrize("name", RULES)
def test_the_time_of_each_rule_grows_as_the_text_whatever_is_repeated(name):
    """The texts are made of the rule's own words."""
    pattern, replacement = RULES[name].pattern, RULES[name].replacement
    assert find_superlinear(lambda text: pattern.sub(replacement, text), list_hostile(pattern)) == []


@pytest.mark.parametrize("name", RULES)
def test_no_text_that_a_rule_would_change_is_left_out_of_its_search(name):
    rule = RULES[name]

    @settings(deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.from_regex(rule.pattern))
    def check(text: str) -> None:
        assert rule.pattern.sub(rule.replacement, text) == text or rule.may_change(fold_case(text))

    check()


def test_without_the_words_that_rules_need_the_result_is_the_same():
    lines = {each.line for each in plant(9, examples(300))} | set(READABLE)
    equal = str.maketrans("iskISK", "\u0131\u017f\u212a\u0130\u017f\u212a")
    for text in (*lines, *map(str.upper, lines), *(line.translate(equal) for line in lines)):
        for name, rule in RULES.items():
            if not rule.may_change(fold_case(text)):
                assert rule.pattern.sub(rule.replacement, text) == text, (name, text)


PIECES = ("x-api-", "x://y", "pass\n", "password: |\n")


@pytest.mark.slow
@pytest.mark.parametrize("piece", PIECES)
def test_the_time_of_a_text_grows_as_its_length(piece):
    redactor = Redactor(["sesame"])

    def measure(size: int) -> float:
        text = (piece * size)[:size]
        began = time.thread_time()
        redactor.redact(text, size)
        return time.thread_time() - began

    short, long = (min(measure(size) for _ in range(3)) for size in (8_000, 32_000))
    assert long < 3**2 * max(short, 0.02), (short, long)  # twice twice as long


def test_lines_that_there_is_no_time_for_are_left_out_and_said():
    lines = [f"line {at} password=hunter{at}" for at in range(1000)]
    looks = iter([False] * (len(lines) + 3) + [True] * 1000)
    said = Redactor().redact("\n".join(lines), 64_000, lambda: next(looks)).split("\n")
    assert said[0] == LEFT_OUT
    assert 100 < len(said) < 900
    assert said[1:] == [f"line {at} password={REMOVED}" for at in range(1001 - len(said), 1000)]
    assert Redactor().redact("password=hunter2", is_late=lambda: True) == LEFT_OUT


def test_a_long_line_is_cut_and_the_others_are_there():
    said = Redactor().redact("first\n" + "x-api-" * 10_000 + "\nlast of them", 64_000)
    assert (said.split("\n")[0], said.split("\n")[-1], len(said) < 3000) == ("first", "last of them", True)


def test_a_text_that_is_too_long_is_cut_between_words():
    said = Redactor().redact("word " * MAX_TEXT + "AKIAABCDEFGHIJKLMNOP")
    assert len(said) <= MAX_TEXT
    assert Redactor().redact("b " * (MAX_TEXT // 2 - 2) + "hunter22").endswith("b ")


@pytest.mark.slow
def test_a_bundle_is_bounded_and_says_what_is_known():
    repair = replace(escalated(), owner_restarts=3)
    evidence = DiagnosisEvidence(
        notes=["x " * 5000] * 500, changes=["~ a"] * 500, logs="l " * 20_000, commits="c\n" * 9000
    )
    facts = FleetFacts({"feed": TargetFacts(svc="feed", health=Health.DOWN)})
    raw = make_bundle(repair, "escalated", facts, evidence, known=[Remedy.WAIT], redact=Redactor().redact)
    assert len(raw) < 64 * 1024
    assert orjson.loads(bundle_of(DiagnosisEvidence(logs="a line\n" * 3000 + "the last")))["logs"].endswith(
        "a line\nthe last"
    )
    found = orjson.loads(raw)
    assert (found["target"], found["remedies"], found["reason"]) == ("feed", ["wait"], "escalated")
    assert (found["owner_restarts"], found["facts"]["health"]) == (3, "down")
    assert [each["verdict"] for each in found["attempts"]] == ["failed"] * 4
    assert orjson.loads(bundle_of(DiagnosisEvidence()))["dependants"] == ["mesh"]
