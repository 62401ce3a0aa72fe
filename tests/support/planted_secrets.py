"""Secrets of 50 kinds, made by a seed, each in a line as it stands in logs, truths, texts and commits."""

import base64
import random
import string
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

ALNUM: Final = string.ascii_letters + string.digits
LOWER: Final = string.ascii_lowercase + string.digits
UPPER: Final = string.ascii_uppercase + string.digits
HEX: Final = "0123456789abcdef"
URLSAFE: Final = ALNUM + "-_"
WORDS: Final = ("correct", "horse", "battery", "staple", "hunter", "dragon", "summer", "monkey", "winter")


@dataclass(frozen=True)
class Planted:
    """A secret and a line that holds it; nothing of `parts` may be left of the line."""

    kind: str
    line: str
    parts: tuple[str, ...]


def pick(rng: random.Random, signs: str, length: int) -> str:
    return "".join(rng.choices(signs, k=length))


def plain_password(rng: random.Random) -> str:
    """A password as people choose them: nothing about it looks random."""
    return rng.choice(WORDS) + str(rng.randrange(10, 9999)) + rng.choice(("", "!", "#", "$", "!x"))


def password(rng: random.Random) -> str:
    """A password of which some have a sign that elsewhere ends a value."""
    return rng.choice(("", "", rng.choice(WORDS) + rng.choice(",;)"))) + plain_password(rng)


def app_password(rng: random.Random) -> Planted:
    """Four words, as providers of mail make them; without vowels, so that no other text has them."""
    words = [pick(rng, "bcdfghjkmnpqvwxz", 4) for _ in range(4)]
    return make("app password", rng.choice(APP_FORMS), " ".join(words), *words)


def jwt(rng: random.Random) -> str:
    head = base64.urlsafe_b64encode(b'{"alg":"HS256","typ":"JWT"}').decode().rstrip("=")
    return f"{head}.{pick(rng, URLSAFE, 60)}.{pick(rng, URLSAFE, 43)}"


def pem(rng: random.Random, kind: str) -> Planted:
    lines = [pick(rng, ALNUM + "+/", 64) for _ in range(6)] + [pick(rng, ALNUM + "+/", 22) + "=="]
    joined = rng.choice(("\n", "\\n")).join(lines)
    text = f"-----BEGIN {kind}PRIVATE KEY-----\n{joined}\n-----END {kind}PRIVATE KEY-----"
    return Planted("private key", text, tuple(lines))


def basic(rng: random.Random) -> str:
    return base64.b64encode(f"ann:{password(rng)}".encode()).decode()


def make(kind: str, form: str, secret: str, *parts: str) -> Planted:
    return Planted(kind, form.format(secret), parts or (secret,))


def cookie(rng: random.Random) -> Planted:
    one, two = pick(rng, LOWER, 14), pick(rng, ALNUM, 10)
    return Planted("cookie", f"Cookie: session={one}; theme=dark; csrftoken={two}", (one, two))


Maker = Callable[[random.Random], Planted]


def simple(kind: str, forms: tuple[str, ...], secret: Callable[[random.Random], str]) -> Maker:
    return lambda rng: make(kind, rng.choice(forms), secret(rng))


APP_FORMS: Final = (
    "app password: {}",
    "SMTP_PASSWORD={} set",
    "smtp_pass = {}",
    "  password: {}",
    '{{"msg": "app passwd: {}", "code": 535}}',
    '{{"app_password": "{}"}}',
    "the app password for ann is {}, since June",
    "ENV SMTP_PASSWORD {}",
)
BARE: Final = ("{}", "using key {} for this call", "failed: got 401 with {}", 'call("{}")', "key={}", "<{}>")
KINDS: Final[tuple[Maker, ...]] = (
    simple("AWS key id", BARE, lambda r: "AKIA" + pick(r, UPPER, 16)),
    simple(
        "AWS secret",
        ("aws_secret_access_key = {}", "SecretAccessKey: {}"),
        lambda r: pick(r, ALNUM + "+/", 40),
    ),
    simple("GitHub token", BARE, lambda r: f"gh{r.choice('pousr')}_{pick(r, ALNUM, 36)}"),
    simple("GitHub fine token", BARE, lambda r: f"github_pat_{pick(r, ALNUM, 22)}_{pick(r, ALNUM, 59)}"),
    simple("GitLab token", BARE, lambda r: "glpat-" + pick(r, URLSAFE, 20)),
    simple("Slack token", BARE, lambda r: f"xoxb-{pick(r, string.digits, 12)}-{pick(r, ALNUM, 24)}"),
    simple(
        "Slack webhook",
        ("POST https://hooks.slack.com/services/{} 200",),
        lambda r: f"T{pick(r, UPPER, 8)}/B{pick(r, UPPER, 8)}/{pick(r, ALNUM, 24)}",
    ),
    simple(
        "Stripe key",
        BARE,
        lambda r: f"{r.choice(('sk', 'rk'))}_{r.choice(('live', 'test'))}_{pick(r, ALNUM, 24)}",
    ),
    simple("model key", BARE, lambda r: f"sk-{r.choice(('', 'proj-', 'ant-api03-'))}{pick(r, URLSAFE, 48)}"),
    simple("Google key", BARE, lambda r: "AIza" + pick(r, URLSAFE, 35)),
    simple("Google OAuth", BARE, lambda r: "ya29." + pick(r, URLSAFE, 80)),
    simple("npm token", BARE, lambda r: "npm_" + pick(r, ALNUM, 36)),
    simple("PyPI token", BARE, lambda r: "pypi-AgEIcHlwaS5vcmc" + pick(r, URLSAFE, 60)),
    simple("Docker token", BARE, lambda r: "dckr_pat_" + pick(r, URLSAFE, 27)),
    simple("Vault token", BARE, lambda r: "hvs." + pick(r, URLSAFE, 24)),
    simple("SendGrid key", BARE, lambda r: f"SG.{pick(r, URLSAFE, 22)}.{pick(r, URLSAFE, 43)}"),
    simple(
        "Telegram bot",
        ("https://api.telegram.org/bot{}/sendMessage", "bot {} started"),
        lambda r: f"{r.randrange(10**8, 10**10)}:{pick(r, URLSAFE, 35)}",
    ),
    simple("Twilio key", BARE, lambda r: "SK" + pick(r, HEX, 32)),
    simple("Shopify token", BARE, lambda r: "shpat_" + pick(r, HEX, 32)),
    simple("token of the board", BARE, lambda r: f"mst_{pick(r, HEX, 8)}_{pick(r, HEX, 64)}"),
    simple("age key", BARE, lambda r: "AGE-SECRET-KEY-1" + pick(r, UPPER, 58)),
    simple("JWT", (*BARE, "session {} is over"), jwt),
    lambda r: pem(r, r.choice(("", "RSA ", "EC ", "OPENSSH ", "ENCRYPTED "))),
    simple(
        "password in a URL",
        (
            "REDIS_URL=redis://:{}@10.0.0.5:6379/0",
            "can't reach postgres://ann:{}@db:5432/market",
            '{{"url": "amqp://u:{}@mq/v"}}',
            "https://ann:{}@example.org/feed.xml",
        ),
        lambda r: r.choice((password(r), password(r) + "/x", password(r) + "@y")),
    ),
    simple("user of a URL", ("clone https://{}@github.com/a/b.git",), lambda r: pick(r, LOWER, 12)),
    simple(
        "query of a URL",
        (
            "GET /v2/bars?symbol=AAPL&apikey={}",
            "https://x.test/a?token={}&b=1",
            "GET /q?api_key={} 403",
            "https://s3.test/k?X-Amz-Signature={}&x=1",
            "https://b.test/c?sig={}",
        ),
        lambda r: pick(r, ALNUM, r.choice((8, 16, 32))),
    ),
    simple(
        "password in JSON",
        (
            '{{"user": "ann", "password": "{}"}}',
            '{{"db_password":"{}","port":5432}}',
            '{{"clientSecret": "{}"}}',
            '{{\\"password\\": \\"{}\\"}}',
            '{{"auth": {{"passwd": "{}"}}}}',
        ),
        password,
    ),
    simple(
        "assignment of the environment",
        (
            "export DB_PASSWORD={}",
            "SMTP_PASS='{}'",
            'API_TOKEN="{}"',
            "PGPASSWORD={} psql -h db",
        ),
        password,
    ),
    app_password,
    simple("key of the environment", ("- POLYGON_API_KEY={}", "MEDIC_DIAGNOSIS_KEY={} set"), plain_password),
    simple(
        "password in YAML",
        ("  password: {}", "  client_secret: '{}'", "redis.pass-phrase.secret: {}"),
        password,
    ),
    simple(
        "authorization header",
        (
            "Authorization: Basic {}",
            "'authorization': 'Basic {}'",
            '"Proxy-Authorization": "Basic {}"',
            "> authorization: Basic {}",
        ),
        basic,
    ),
    simple(
        "bearer header",
        ("Authorization: Bearer {}", "sent Bearer {} to x", '{{"Authorization":"Bearer {}"}}'),
        lambda r: pick(r, ALNUM, r.choice((10, 20, 40))),
    ),
    cookie,
    simple(
        "set cookie",
        ("Set-Cookie: sid={}; Path=/; HttpOnly", "set-cookie: PHPSESSID={}; Secure"),
        lambda r: pick(r, LOWER, 12),
    ),
    simple("header of a key", ("X-API-Key: {}", '"x-auth-token": "{}"', "PRIVATE-TOKEN: {}"), password),
    simple(
        "connection string",
        (
            "Server=db;Database=m;User Id=sa;Password={};Encrypt=yes",
            "host=db user=ann password={} dbname=m",
        ),
        password,
    ),
    simple(
        "key of a connection",
        (
            "Endpoint=sb://x/;SharedAccessKeyName=root;SharedAccessKey={}",
            "DefaultEndpointsProtocol=https;AccountName=a;AccountKey={};",
        ),
        plain_password,
    ),
    simple(
        "flag of a command",
        (
            "run: tool --password {} --fast",
            "curl -u ann:{} https://x.test",
            "mysql -u root -p{} m",
            "redis-cli -a {} PING",
            "tool --api-key={}",
        ),
        password,
    ),
    simple(
        "hash of a password",
        ("root:{}:19000:0:99999", "ann:{}", "stored {} for ann"),
        lambda r: r.choice(
            (
                f"$6${pick(r, ALNUM, 8)}${pick(r, ALNUM + './', 86)}",
                f"$2b$12${pick(r, ALNUM + './', 53)}",
                f"$argon2id$v=19$m=65536,t=3,p=4${pick(r, ALNUM, 22)}${pick(r, ALNUM, 43)}",
            )
        ),
    ),
    simple(
        "password of Redis",
        (
            "AUTH {}",
            "requirepass {}",
            "masterauth {}",
            "ACL SETUSER ann on >{} ~* +@all",
            '1700000.1 [0 10.0.0.1:1] "AUTH" "{}"',
        ),
        password,
    ),
    simple(
        "password in SQL", ("ALTER ROLE ann PASSWORD '{}';", "CREATE USER a IDENTIFIED BY '{}'"), password
    ),
    simple(
        "password in a file", ("machine x.test login ann password {}", "db.test:5432:market:ann:{}"), password
    ),
    simple(
        "value beside its name",
        (
            "- name: DB_PASSWORD\n  value: {}",
            '{{"name":"API_TOKEN","value":"{}"}}',
            '<add key="ApiKey" value="{}"/>',
            "ENV SMTP_PASSWORD {}",
            "ann:{}@tcp(db.test:3306)/market",
            "\x1b[31mpassword\x1b[0m={}",
            'API key "{}" was refused',
            "Password for ann: {}",
        ),
        password,
    ),
    simple(
        "password in words",
        ("the password is {}", "set the token to {} for now", "my pin was {}, change it"),
        password,
    ),
    simple(
        "passphrase", ("passphrase: {}", 'key passphrase="{}"'), lambda r: " ".join(r.choices(WORDS, k=5))
    ),
    simple(
        "random hex", ("digest {} refused", "id={}", "{}"), lambda r: pick(r, HEX, r.choice((24, 32, 40, 64)))
    ),
    simple(
        "random base64",
        ("seed {}", "blob: {}", "{}"),
        lambda r: pick(r, ALNUM + "+/", r.choice((24, 32, 44))) + "=",
    ),
    simple(
        "random letters and digits",
        ("value {} was used", "{}"),
        lambda r: pick(r, ALNUM, r.choice((20, 24, 32))),
    ),
    simple(
        "UUID",
        ("https://hc-ping.com/{}", "ping /ping/{}/start", "key {}"),
        lambda r: str(uuid.UUID(int=r.getrandbits(128), version=4)),
    ),
)


def plant(seed: int, count: int) -> list[Planted]:
    """Return `count` secrets, of each kind as many as of another one."""
    rng = random.Random(seed)
    return [KINDS[at % len(KINDS)](rng) for at in range(count)]
