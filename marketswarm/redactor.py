"""Remove secrets from text before it leaves the fleet. Pure, but for `list_secrets`, which may read files.

Three kinds of rules: forms that are known (keys of well-known services, private keys, signed tokens), places
that hold a secret (a URL's user, a header, a variable called `…_PASSWORD`), and text that looks random. Where
it is not clear, text is removed: a diagnosis can do without it. Names, times and sentences stay.

The text is hostile: whoever writes a log chooses it. So lines are cut first, some of them are searched at a
time, each expression takes time that grows as its text, and who calls may end it between two pieces.
"""

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote, unquote, urlsplit

from marketswarm.exit import Exit
from marketswarm.settings import read_variable
from marketswarm.truth.credentials import is_secret_key

Replacement = str | Callable[[re.Match[str]], str]

REMOVED: Final = "[removed]"
MAX_TEXT: Final = 30_000
"""The longest text that is looked at."""
MAX_RAW_LINE: Final = 8000
"""The longest line that is read, while a text in JSON is one line."""
MAX_LINE: Final = 2000
"""The longest line in which secrets are looked for; the rest of a longer one is left out."""
BLOCK: Final = 4000
"""So much is searched at a time, in characters: whole lines, twice as much where lines belong together."""
LEFT_OUT: Final = "[lines are left out here: there was no time to remove secrets from them]"
MAX_QUOTED: Final = 3
"""So often a text may have been quoted: a log line in JSON, of a document, in a difference of two truths."""
LEAST_LITERAL: Final = 5
"""Shorter values of secret variables are not looked for: they would remove parts of words."""
NOT_SECRET: Final = frozenset({"TRUTH_REDIS_KEY"})
"""Variables that have the name of a secret, and hold none: this one is the name of a key in Redis."""

_WORDS: Final = (
    r"pass|pw|passw(?:or)?ds?|passwd|passphrase|pwd|psk|secrets?|(?:auth|access|refresh|id|bearer|session|csrf|bot|api)?"
    r"[_-]?tokens?|(?:api|access|account|private|signing|encryption|master|shared[_-]?access|secret|routing|"
    r"integration|license|service|storage|ssh|host|deploy|storage[_-]?account)[ _-]?keys?(?:[_-]?id)?|"
    r"credentials?|creds?|auth|authkey|authorization|cookies?|session(?:[_-]?id)?|sess|sid|phpsessid|jsessionid|"
    r"jwt|otp|totp|pin|salt|signature|sig|hmac|webhook(?:[_-]?url)?|dsn|conn(?:ection)?[_-]?str(?:ing)?|"
    r"requirepass|masterauth|mnemonic|seed[_-]?phrase|x-api-key|apikey"
)
# what is before the word is not matched: only so a long hostile text takes no long time
_NAME: Final = rf"(?:(?<![A-Za-z])(?:{_WORDS})(?:[_.-][A-Za-z0-9_.-]{{0,60}})?)"
_CAMEL: Final = (
    r"(?-i:(?:[Pp]assword|PASSWORD|[Pp]asswd|[Pp]assphrase|[Ss]ecret|SECRET|[a-z]Token|TOKEN|[a-z]Key|_KEY|"
    r"APIKEY|[a-z]Auth|[Cc]redential|[a-z]Pwd)[A-Za-z0-9_]{0,60})"
)
_PASSWORDS: Final = (
    r"(?:(?<![A-Za-z])(?:pass|pw|pwd|passw(?:or)?ds?|passwd|passphrase|passcode|psk|passwort|kennwort|wachtwoord|"
    r"contrase(?:ñ|n)as?|senha|mot[ _-]?de[ _-]?passe)(?:[_.-][A-Za-z0-9_.-]{0,60})?|"
    # the end of a word, as in DBPASS
    r"(?<=[A-Za-z0-9])(?<!\bby)(?<!\bcom)(?<!\bsur)(?<!\btres)(?:pass|passwd|pwd?)(?![A-Za-z0-9_.-])|"
    r"(?-i:(?:[Pp]assword|PASSWORD|[Pp]asswd|PASSWD|[Pp]assphrase|PASSPHRASE|[Pp]asscode|PASSCODE|[a-z]Pass|"
    r"[a-z]Pwd)[A-Za-z0-9_]{0,60}))"
)
_QUOTED: Final = r'"(?:[^"\\]|\\.)*"?|' + r"'(?:[^'\\]|\\.)*'?"
_BRACKETS: Final = r"\((?=[^)\n]{0,300}[\"'])[^)\n]{1,300}+\)?|\[(?=[^\]\n]{0,300}[\"'])[^\]\n]{1,300}+\]?"
"""Several values, one of them in quotes, such as `('bob', 'password')`."""
_ASSIGNED_QUOTED: Final = re.compile(
    rf"(?i)((?:{_NAME}|{_CAMEL})[\"']?\]?\s{{0,20}}(?:=>|:=|==?|:)\s{{0,20}})({_QUOTED})"
)
"""A quoted value as it stands before its escapes are undone, when a quote inside of it does not end it."""
_COUNT: Final = re.compile(r"(?:tokens|keys|sessions?|cookies)\W*$", re.IGNORECASE)
"""Names under which a number is a count, as in `max_tokens: 4000`."""
_HARMLESS: Final = (
    r"(?:true|false|null|none|yes|no|on|off|unset|missing|empty|required|expired|invalid|failed|error|ok|"
    r"env:[A-Z0-9_]+|\[removed\])"
)
_HARMLESS_VALUE: Final = re.compile(_HARMLESS, re.IGNORECASE)
# a quote that ends a text in JSON ends a password in that text, too
_IN_TEXT: Final = r"\"(?!\s{0,9}(?:,\s{0,9}[\"\n]|[}\]]|$))"
# the rest of a query string is no part of a password
_RUN: Final = rf"(?:[^\s&\"]|&(?![\w.-]{{1,40}}=)|{_IN_TEXT})+"
_REST: Final = rf"(?:[^\n\"]|{_IN_TEXT})+"

_ESCAPE: Final = re.compile(r"\\(?:([nrt\"\\/])|(?:u00|x)([0-7][0-9A-Fa-f]))")
_ESCAPED: Final = {"n": "\n", "r": "\r", "t": "\t"}

_KEY_BEGIN: Final = re.compile(r"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----|PuTTY-User-Key-File")
_KEY_END: Final = re.compile(r"-----END [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?(?:-----)?|Private-MAC:[^\n]*")
_PEM_END: Final = re.compile(r"-----END [A-Z0-9 ]{0,40}PRIVATE KEY")
_PEM_SIGNS: Final = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/=\\ \t\r\n"
_BLOCK_BEGIN: Final = re.compile(
    rf"(?i)(?:{_NAME}|{_CAMEL}|{_PASSWORDS})[\"']?\s{{0,9}}:\s{{1,9}}[|>][+-]?\d?[+-]?\s{{0,9}}$"
)
"""The key of a text of several lines in YAML, which are further in than the key."""
_SPLIT: Final = re.compile(
    r"(?<![A-Za-z0-9+/=_.-])([A-Za-z0-9+/=_.-]{6,512}+)(\n[ \t]{0,20})"
    r"([A-Za-z0-9+/_.-]{3,512}+={0,2})(?=[\s\"',;)}\]]|$)"
)
"""Two lines between which a token may be split."""
_LEVEL: Final = re.compile(r"TRACE|DEBUG|INFO|NOTICE|WARN(?:ING)?|ERROR|CRITICAL|FATAL|PANIC|Traceback")
_WIDTHLESS: Final = dict.fromkeys(
    map(ord, "\u00ad\u180e\u200b\u200c\u200d\u200e\u200f\u2060\u2061\u2062\u2063\u2064\ufeff")
)
"""Characters that no one sees, which may stand within a word."""
_BLOCK_SIGNS: Final = tuple("|>+-123456789")
_GOES_ON: Final = tuple("=:|>\\,({[")
_GOES_ON_IN: Final = (" ", "\t", "$")
_ACL_PASSWORD: Final = re.compile(r"(\s[><#!])\S+")
_SECRET_COLUMN: Final = re.compile(rf"(?i){_NAME}|{_CAMEL}|{_PASSWORDS}")
_PIECE: Final = re.compile(r"[A-Za-z0-9]+")
_LONG_PIECE: Final = 16
_LONG_LETTERS: Final = 24
_LEAST_RATE: Final = 0.18
"""The share of places at which a random text changes its kind of character; names do so less often."""
_LONG_RUN: Final = 20


def _keep_first(match: re.Match[str]) -> str:
    return match[1] + REMOVED


def _keep_two(match: re.Match[str]) -> str:
    return match[1] + match[2] + REMOVED


def _remove_user(match: re.Match[str]) -> str:
    """Remove all before the last `@` of a URL, which may stand as `%40`."""
    for at in ("@", "%40"):
        _user, found, host = match[2].rpartition(at)
        if found:
            return f"{match[1]}{REMOVED}{at}{host}"
    return match[0]


def _remove_row(match: re.Match[str]) -> str:
    """Remove the values of an INSERT that has a column with the name of a secret."""
    is_secret = _SECRET_COLUMN.search(match[2]) is not None
    return f"{match[1]}{match[2]}{match[3]} {REMOVED}" if is_secret else match[0]


def _remove_arguments(match: re.Match[str]) -> str:
    """Remove the arguments of a call if they are a user and a password: so many texts without names."""
    words = [each.strip() for each in match[2].split(",")]
    texts = sum(each.startswith(("'", '"', "b'", 'b"')) for each in words)
    return match[1] + REMOVED if texts >= (3 if match[1].lower() == "connect(" else 2) else match[0]


def _keep_harmless(match: re.Match[str]) -> str:
    """Keep a value that can't be a secret, such as `token: expired`."""
    value = match[2].strip("\\\"' .,;:)}&")
    is_count = value.isdigit() and _COUNT.search(match[1]) is not None
    return match[0] if not value or is_count or _HARMLESS_VALUE.fullmatch(value) else match[1] + REMOVED


def _compile(pattern: str, replacement: Replacement) -> tuple[re.Pattern[str], Replacement]:
    return re.compile(pattern), replacement


RULES: Final = {
    "color": _compile(r"\x1b\[[0-9;]{0,20}[A-Za-z]", ""),
    "url_blank": _compile(
        r"((?<![A-Za-z0-9+.-])[A-Za-z][A-Za-z0-9+.-]{0,30}+://[^\s:/@]{0,100}+:)(?!\d{1,5}(?:[\s/]|$))"
        r"[^\s@\"'<>`]{1,100}+(?: [^\s@\"'<>`]{1,100}+){1,3}+@(?=[\w\[])",
        rf"\1{REMOVED}@",
    ),
    "url_user": _compile(
        r"((?<![A-Za-z0-9+.-])[A-Za-z0-9+.-]{0,60}:(?://|\\/\\/))([^\s\"'<>`]*+)", _remove_user
    ),
    "url_quoted": _compile(r"(?i)((?<![a-z0-9+.-])[a-z0-9+.-]{1,60}%3A%2F%2F)([^\s\"'<>&]*+)", _remove_user),
    "user_at_host": _compile(r"(\b[\w.-]{1,60}:)[^\s:@/\"']{1,100}@(?=[\w(\[])", rf"\1{REMOVED}@"),
    "url_secret_path": _compile(
        r"(hooks\.slack\.com/(?:services|workflows)/|discord(?:app)?\.com/api/webhooks/|hc-ping\.com/|"
        r"webhook\.office\.com/|outlook\.office\.com/webhook/|api\.telegram\.org/(?:file/)?bot|"
        r"hooks\.zapier\.com/hooks/catch/|maker\.ifttt\.com/[^\s]{0,100}?/key/|/api/v1/ping/|/ping/)[^\s\"'<>?]+",
        _keep_first,
    ),
    "query": _compile(
        rf"(?i)([?&;](?:[\w.-]{{0,40}}(?:{_NAME}|{_CAMEL})|key|code|X-Amz-[A-Za-z-]+|sv|se|sp)=)[^&\s\"'<>;#]+",
        _keep_first,
    ),
    "header": _compile(
        r"(?i)(\b(?:proxy-)?authorization|\b(?:set-)?cookie|"
        r"\bx-(?:api|auth|access|amz|csrf|vault|goog|shopify)[a-z-]{0,60}+|\bapi-key|\bprivate-token|\bdd-api-key|\bstripe-signature)"
        rf"(\\?[\"']?\s{{0,20}}[:=]\s{{0,20}})(\\\"(?:[^\"\\])*\\\"|{_QUOTED}|[^\n]+)",
        _keep_two,
    ),
    "scheme": _compile(
        r"(?i)\b(bearer|basic|digest|negotiate|ntlm|apikey)(\s+)[A-Za-z0-9._~+/=:-]{6,}", _keep_two
    ),
    "phrase": _compile(
        r"(?i)((?:passphrase|mnemonic|seed[ _-]?phrase|recovery[ _-]?(?:phrase|codes?))\\?[\"']?\s{0,20}"
        r"(?:[:=]|is)\s{0,20})[^\n]+",
        _keep_first,
    ),
    "xml": _compile(rf"(?i)(<[\w.:-]{{0,40}}(?:{_NAME}|{_CAMEL})(?:\s[^<>]{{0,200}})?>)[^<]+", _keep_first),
    "hash": _compile(
        r"(?i)\$(?:1|2[abxy]?|5|6|7|y|gy|apr1|P|H|argon2(?:id?|d)|scrypt|pbkdf2[a-z0-9-]*|bcrypt-sha256)"
        r"\$[^\s:\"',]+"
        r"|\b(?:pbkdf2|scrypt|argon2|bcrypt|sha1|sha256|md5)[a-z0-9_:]{0,40}\$[^\s\"',]+"
        r"|\bSCRAM-SHA-\d+\$[^\s\"',]+|\{S?(?:SHA|MD5|CRYPT|SSHA\d*)\}[^\s\"',]+",
        REMOVED,
    ),
    "known": _compile(
        r"(?<![A-Za-z0-9])(?:"
        r"(?:AKIA|ASIA|AGPA|AIDA|AROA|ANPA|ABIA)[A-Z0-9]{8,}"
        r"|gh[pousr]_[A-Za-z0-9]{6,}|github_pat_\w{6,}|gl(?:pat|ptt|dt|rt|soat|ft|cbt|agent|oas)-[\w-]{6,}"
        r"|xox[a-z]{1,2}-[\w-]{6,}|xapp-[\w-]{6,}|xwfp-[\w-]{6,}"
        r"|(?:sk|pk|rk)[-_](?:live|test|ant|proj|or|svcacct|lf)?[-_]?[A-Za-z0-9_-]{10,}|whsec_[A-Za-z0-9+/=_-]{6,}"
        r"|AIza[\w-]{10,}|ya29\.[\w.-]{6,}|1//0[\w-]{10,}|GOCSPX-[\w-]{6,}"
        r"|npm_\w{10,}|pypi-[\w-]{10,}|dckr_(?:pat|oat)_[\w-]{6,}|hv[sbr]\.[\w-]{6,}|s\.[A-Za-z0-9]{20,}"
        r"|SG\.[\w-]{6,80}\.[\w-]{6,}|key-[0-9a-f]{16,}|[0-9a-f]{32}-us\d{1,2}|sq0[a-z]{3}-[\w-]{6,}|EAA[A-Za-z0-9]{16,}"
        r"|shp(?:at|ca|pa|ss)_\w{6,}|do[opr]_v1_\w{6,}|lin_(?:api|oauth)_\w{6,}|PMAK-[\w-]{6,}|gl(?:sa|c)_[\w+/=-]{6,}"
        r"|NR(?:AK|JS|BR|II|RA|SP)-[\w-]{6,}|hf_\w{10,}|r8_\w{10,}|mst_[0-9a-f]{6,}_?[0-9a-f]*|sntry[su]_[\w+/=.-]{6,}"
        r"|(?:SK|AC)[0-9a-f]{32}|\d{6,12}:[A-Za-z0-9_-]{30,}|AGE-SECRET-KEY-1[A-Z0-9]+|dapi[0-9a-f]{16,}"
        r"|[MNO][A-Za-z\d_-]{22,40}\.[\w-]{6}\.[\w-]{20,}|pat[A-Za-z0-9]{14}\.[0-9a-f]{20,}|secret_[A-Za-z0-9]{10,}"
        r"|ntn_\w{10,}|figd_[\w-]{6,}|pul-[0-9a-f]{10,}|rubygems_[0-9a-f]{10,}|tskey-[\w-]{6,}|cf(?:ut|k)_\w{10,}"
        r"|eyJ[\w-]{4,}(?:\.[\w-]*){0,4}|AQ[A-Za-z0-9+/_-]{40,}=*|v2\.(?:local|public)\.[\w.-]{10,}"
        r")",
        REMOVED,
    ),
    "app_password": _compile(
        r"(?is)(pass.{0,80}?(?<![A-Za-z]))(?-i:[a-z]{4}(?: [a-z]{4}){3})(?![A-Za-z])", _keep_first
    ),
    "redis_wire": _compile(
        r"(?i)(\bAUTH\s{1,4}\$\d{1,9}\s{1,4})\S+(?:\s{1,4}\$\d{1,9}\s{1,4}\S+)?", _keep_first
    ),
    "redis_monitor": _compile(r"(?i)(\"(?:AUTH|HELLO)\"\s)[^\n]+", _keep_first),
    "redis_acl": _compile(
        r"(?i)(\bsetuser\b[^\n]*)", lambda match: _ACL_PASSWORD.sub(rf"\1{REMOVED}", match[0])
    ),
    "sql": _compile(r"(?i)(\b(?:identified\s+by|password)\s+)(?:'[^'\n]*'|\"[^\"\n]*\")", _keep_first),
    "insert": _compile(
        r"(?i)(\binsert\s{1,9}into\s[^()\n]{1,80}+\()([^()\n]{1,500}+)(\)\s{0,9}values?\b)[^\n]+", _remove_row
    ),
    "oracle": _compile(
        r"(?i)(\bjdbc:oracle:\w{1,20}:|\bsqlplus\s{1,9}(?:-\w\s{1,9})?)[^\s\"'@/]{1,100}/[^\s\"'@]{1,100}",
        _keep_first,
    ),
    "made": _compile(
        r"(\b(?:Secret(?:Str|Bytes)?|(?:HTTP)?(?:Basic|Digest|Proxy)Auth)\()(?=[^)\n]{0,300}[\"'])[^)\n]{1,300}",
        _keep_first,
    ),
    "called": _compile(
        r"(?i)(\b(?:connect|login|authenticate|auth|sign_?in|set_auth|basic_auth)\()([^)\n]{1,300}+)",
        _remove_arguments,
    ),
    "pair": _compile(
        rf"(?i)([\[(]\s{{0,9}}\\?[\"'](?:[A-Za-z0-9_.-]{{0,40}}(?:{_NAME}|{_CAMEL}))\\?[\"']\s{{0,9}},\s{{0,9}})"
        rf"(?:\\\"[^\"\\]*\\\"|{_QUOTED})",
        _keep_first,
    ),
    "value_first": _compile(
        r"(?i)(\bvalue\\?[\"']?\s{0,9}[:=]\s{0,9})(?:\\?\"[^\"\n]{0,300}+\"|'[^'\n]{0,300}+'|[^\s\"',;]{1,300}+)"
        rf"(?=[\s,;]{{1,20}}\\?[\"']?(?:name|key)\\?[\"']?\s{{0,9}}[:=]\s{{0,9}}\\?[\"']?[\w.-]{{0,40}}(?:{_NAME}|{_CAMEL}))",
        _keep_first,
    ),
    "named": _compile(
        rf"(?i)(\b(?:name|key)\\?[\"']?\s{{0,9}}[:=]\s{{0,9}}\\?[\"']?[\w.-]{{0,40}}(?:{_NAME}|{_CAMEL})\\?[\"']?"
        rf"[\s,;/-]{{0,40}}\\?[\"']?value\\?[\"']?\s{{0,9}}[:=]\s{{0,9}})(?:\\\"[^\"\\]*\\\"|{_QUOTED}|\S+)",
        _keep_first,
    ),
    "variable": _compile(
        r"(\b[A-Z0-9_]{0,40}(?:PASSWORD|PASSWD|SECRET|TOKEN|_KEY)[A-Z0-9_]{0,40}[ \t]+)[^\s=:\"']\S*",
        _keep_first,
    ),
    "netrc": _compile(r"(?i)(\b(?:machine|login)\s+\S{1,80}[^\n]{0,200}?\bpassword\s+)\S+", _keep_first),
    "pgpass": _compile(
        r"((?<![\w.-])[\w.-]{1,80}:(?:\d{2,5}|\*):[\w*-]{1,63}:[\w*-]{1,63}:)[^\s:]+", _keep_first
    ),
    "redis": _compile(
        r"((?:^|[\s\"'>])(?:AUTH|HELLO[ \t]+[23][ \t]+AUTH|requirepass|masterauth|"
        r"CONFIG[ \t]+SET[ \t]+\w*pass\w*)[ \t]+)"
        r"(?:\"[^\"\n]*\"|[^\s\"']+(?:[ \t]+[^\s\"']+)?)",
        _keep_first,
    ),
    "glued": _compile(
        r"(\b(?:mysql|mysqldump|mariadb|sshpass)\b[^\n]{0,200}?\s-p)(?:\s{0,9})(?:['\"][^'\"]+['\"]|\S+)",
        _keep_first,
    ),
    "glued_user": _compile(r"((?<![A-Za-z0-9-])-u)[^\s:\"'=-][^\s:\"']{0,60}:[^\s\"']+", _keep_first),
    "flag": _compile(
        rf"(?i)((?<![A-Za-z0-9-])--?(?:[A-Za-z0-9-]{{0,40}}{_NAME}|user|u|a)(?:\s+|=))(?:{_QUOTED}|[^\s\"']+)",
        _keep_first,
    ),
    "password_number": _compile(
        rf"(?i)({_PASSWORDS}\\?[\"']\s{{0,20}}:\s{{0,20}})\d[\d.]*(?=\s{{0,20}}(?:,\s{{0,20}}\\?[\"']|[}}\]]))",
        _keep_first,
    ),
    "password": _compile(
        rf"(?im)({_PASSWORDS}\\?[\"']?\]?\s{{0,20}}==?(?![>\s]))(\\\"[^\"\\]*\\\"|{_QUOTED}|{_BRACKETS}|{_RUN})",
        _keep_harmless,
    ),
    "password_line": _compile(
        rf"(?im)({_PASSWORDS}\\?[\"']?\]?\s{{0,20}}(?:=>|:=|:|==?[ \t])\s{{0,20}})"
        rf"(\\\"[^\"\\]*\\\"|{_QUOTED}|{_BRACKETS}|{_HARMLESS}(?=[\"']?\s{{0,20}}(?:[,;&)}}\].]{{1,9}}(?:[\s\"']|$)|$))|{_REST})",
        _keep_harmless,
    ),
    "assigned": _compile(
        rf"(?i)((?:{_NAME}|{_CAMEL})\\?[\"']?\]?\s{{0,20}}(?:=>|:=|==?|:)\s{{0,20}})"
        rf"(\\\"[^\"\\]*\\\"|{_QUOTED}|{_BRACKETS}|\[removed\]|[^\s,;&\"')}}\]]+)",
        _keep_harmless,
    ),
    "prose": _compile(
        r"(?i)(\b(?:passw(?:or)?d|passcode|secret|token|api key|pin|otp|code)\s{1,9}"
        r"(?:is|was|to|with value)\s{1,9}(?:now\s{1,9})?[:=]?\s{0,9})"
        r"(\"[^\"\n]+\"|'[^'\n]+'|\S+)",
        _keep_harmless,
    ),
    "after_word": _compile(
        r"(?i)(\b(?:password|passwd|passwort|passcode|secret|token|key)\s{1,9}(?:for\s[^\s:]{1,60}:\s{0,9})?)"
        r"(\"[^\"\n]+\"|'[^'\n]+'|(?<=:\s)\S+|(?=[^\s]{0,80}\d)(?=[^\s]{0,80}[A-Za-z])[^\s,;\"'()]{6,})",
        _keep_first,
    ),
    "uuid": _compile(r"(?i)\b[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}\b", REMOVED),
    "run": _compile(
        r"[A-Za-z0-9+/=_-]{16,512}", lambda match: REMOVED if looks_random(match[0]) else match[0]
    ),
}
"""The rules by what they find, in the order in which they are applied."""


class Redactor:
    """Remove secrets from text.

    Args:
        secrets: values that are known to be secret, such as those of our own environment.
    """

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        known = {each.strip() for each in secrets}
        forms = set[str]()
        for each in known:  # as it stands in a text, in a URL, in JSON and in Python
            forms |= {each, quote(each, safe=""), json.dumps(each)[1:-1], repr(each)[1:-1]}
        longest_first = sorted((form for form in forms if len(form) >= LEAST_LITERAL), key=len, reverse=True)
        self._literals = re.compile("|".join(map(re.escape, longest_first))) if longest_first else None
        packed = ["".join(form.split()) for form in longest_first]
        self._packed = re.compile("|".join(re.escape(form) for form in packed if len(form) >= LEAST_LITERAL))

    def redact(self, text: str, at_most: int = MAX_TEXT, is_late: Callable[[], bool] = lambda: False) -> str:
        """Return a text with REMOVED in the place of each secret in its first `at_most` characters.

        Escapes of JSON are undone, and long lines cut. `is_late` is asked between pieces of milliseconds:
        once it returns True, what was not searched is left out, and LEFT_OUT says so. The last lines are
        searched first, since they are worth the most.
        """
        lines = list[str]()
        for raw in _cut(text, at_most).translate(_WIDTHLESS).split("\n"):
            if is_late():
                lines.append(LEFT_OUT)
                break
            # a text in JSON has lines of its own
            lines += [
                _cut_line(line, MAX_LINE) for line in self._unescape(_cut_line(raw, MAX_RAW_LINE)).split("\n")
            ]
        found = list[str]()
        for block in reversed(list(_group_lines(_remove_blocks(_remove_keys(_join_continued(lines)))))):
            if is_late():
                found.append(LEFT_OUT)
                break
            found.append(self._redact_block(block))
        return "\n".join(reversed(found))

    def _redact_block(self, text: str) -> str:
        text = self._remove_known(_SPLIT.sub(_remove_split, self._remove_known_over_lines(text)))
        for pattern, replacement in RULES.values():
            text = pattern.sub(replacement, text)
        return text

    def _unescape(self, text: str) -> str:
        """Return a text with the escapes of JSON undone, for up to MAX_QUOTED texts inside of each other.

        Each of these texts is searched for known secrets, since one with a backslash stands only in one.
        """
        text = self._remove_known(text)
        for _ in range(MAX_QUOTED):
            if "\\" not in text:
                break
            text, count = _ESCAPE.subn(_read_escape, _ASSIGNED_QUOTED.sub(_keep_harmless, text))
            if not count:
                break
            text = self._remove_known(text)
        return text

    def _remove_known_over_lines(self, text: str) -> str:
        """Remove known secrets that are split over several lines."""
        if self._literals is None or "\n" not in text:
            return text
        places = [at for at, sign in enumerate(text) if not sign.isspace()]
        spans = []
        for match in self._packed.finditer("".join(text[at] for at in places)):
            start, end = places[match.start()], places[match.end() - 1] + 1
            if "\n" in text[start:end]:
                spans.append((start, end))
        for start, end in reversed(spans):
            text = text[:start] + REMOVED + text[end:]
        return text

    def _remove_known(self, text: str) -> str:
        return text if self._literals is None else self._literals.sub(REMOVED, text)


def _cut(text: str, at_most: int) -> str:
    """Return the begin of a text, without the word that is cut: a part of a secret has no form."""
    if len(text) <= at_most:
        return text
    kept = text[:at_most]
    return kept[: len(kept) - len(re.split(r"\s", kept)[-1])]


def _read_escape(match: re.Match[str]) -> str:
    return chr(int(match[2], 16)) if match[2] else _ESCAPED.get(match[1], match[1])


def _cut_line(line: str, at_most: int) -> str:
    """Return the begin of a line; where a private key ends in what is left out, that is said."""
    if len(line) <= at_most:
        return line
    end = _PEM_END.search(line, at_most)
    return _cut(line, at_most) + (f" {end[0]}" if end else "")


def _join_continued(lines: Iterable[str]) -> list[str]:
    """Return lines, each that ends in a backslash with the next one behind it, up to MAX_LINE characters."""
    found = list[str]()
    goes_on = False
    for line in lines:
        if goes_on and len(found[-1]) + len(line) < MAX_LINE:
            found[-1] = f"{found[-1].rstrip()[:-1]} {line.lstrip()}"
        else:
            found.append(line)
        goes_on = line.rstrip().endswith("\\")
    return found


def _remove_keys(lines: Iterable[str]) -> list[str]:
    """Remove private keys, which have several lines, also one whose begin or end is not in the text."""
    found = list[str]()
    is_inside = False
    for line in lines:
        kept, at = "", 0
        while True:
            if is_inside:
                end = _KEY_END.search(line, at)
                if end is None:
                    break
                is_inside, at = False, end.end()
            begin = _KEY_BEGIN.search(line, at)
            end = _PEM_END.search(line, at, len(line) if begin is None else begin.start())
            if end is not None:  # the first lines of this one are not here
                kept = (kept + line[at : end.start()]).rstrip(_PEM_SIGNS)
                while not kept and found and not found[-1].strip(_PEM_SIGNS):
                    found.pop()
                if not kept and found:
                    found[-1] = found[-1].rstrip(_PEM_SIGNS)
                kept, at = kept + REMOVED, end.end()
                continue
            if begin is None:
                kept += line[at:]
                break
            kept += line[at : begin.start()] + REMOVED
            is_inside, at = True, begin.end()
        if kept or (not is_inside and not at):
            found.append(kept)
    return found


def _remove_blocks(lines: Iterable[str]) -> Iterator[str]:
    """Remove texts of several lines in YAML whose key has the name of a secret."""
    indent: int | None = None
    for line in lines:
        own = len(line) - len(line.lstrip())
        if indent is not None and (own > indent or not line.strip()):
            yield line if not line.strip() else line[:own] + REMOVED
            continue
        indent = own if line.rstrip().endswith(_BLOCK_SIGNS) and _BLOCK_BEGIN.search(line) else None
        yield line


def _group_lines(lines: Iterable[str]) -> Iterator[str]:
    """Yield lines in blocks, so that those which may belong together are in one."""
    block, size = list[str](), 0
    for line in lines:
        belongs = bool(block) and (block[-1].rstrip().endswith(_GOES_ON) or line.startswith(_GOES_ON_IN))
        if size + len(line) > (2 * BLOCK if belongs else BLOCK) and block:
            yield "\n".join(block)
            block, size = [], 0
        block.append(line)
        size += len(line) + 1
    if block:
        yield "\n".join(block)


def _remove_split(match: re.Match[str]) -> str:
    """Remove a token that is split over two lines."""
    first, between, rest = match.groups()
    is_alone = match.string[match.end() : match.end() + 1] in ("", "\n")
    if _LEVEL.fullmatch(rest) or not (is_alone or _has_mixed_kinds(rest)):
        return match[0]
    known = RULES["known"][0].search(first + rest)
    is_known = known is not None and known.start() < len(first) < known.end()
    is_random = _has_mixed_kinds(first) and _has_mixed_kinds(rest) and looks_random(first + rest)
    return f"{REMOVED}{between}{REMOVED}" if is_known or is_random else match[0]


def looks_random(run: str) -> bool:
    """Return True if a run of letters, digits and the signs of base64 is not a name, path or number."""
    pieces = _PIECE.findall(run)
    if any(map(_is_random_piece, pieces)):
        return True
    # base64 has signs between its letters, so no piece of it may be long
    mixed = sum(len(each) for each in pieces if _has_mixed_kinds(each))
    return len(run) >= _LONG_RUN and mixed >= len(run) / 2 and _measure_rate("".join(pieces)) >= _LEAST_RATE


def _has_mixed_kinds(piece: str) -> bool:
    kinds = (any(map(str.isdigit, piece)), any(map(str.isupper, piece)), any(map(str.islower, piece)))
    is_mixed = sum(kinds) >= 2
    return is_mixed and not piece.istitle() and not _is_error(piece)


def _is_error(piece: str) -> bool:
    """Return True for the name of a class, such as `SSLCertVerificationError`."""
    return piece.isalpha() and piece.endswith(("Error", "Exception", "Warning"))


def _is_random_piece(piece: str) -> bool:
    if len(piece) < _LONG_PIECE or piece.isdigit():
        return False
    if re.fullmatch(r"[0-9a-f]+|[0-9A-F]+", piece) and re.search(r"\d", piece):
        return True
    if piece.isalpha():
        if piece.islower() or piece.isupper():
            return len(piece) >= _LONG_LETTERS
        is_name = len(piece) < _LONG_RUN or _is_error(piece)
        return not is_name and _measure_rate(piece) >= _LEAST_RATE
    return _measure_rate(piece) >= _LEAST_RATE or len(piece) >= 2 * _LONG_PIECE


def _measure_rate(text: str) -> float:
    """Return the share of places at which a digit meets a letter, or a capital follows another letter."""
    has_small = any(map(str.islower, text))
    changes = sum(
        a.isdigit() != b.isdigit() or (b.isupper() and a.isalpha() and has_small) for a, b in pairwise(text)
    )
    return changes / max(1, len(text))


def list_secrets(environ: Mapping[str, str], key: Any = None) -> list[str]:
    """Return the values of our own environment that are secret, which are removed wherever they are.

    The value of X may stand in the file that `X_FILE` names. A file that can't be read is left out.
    """
    found = [] if key is None else [str(key.get_secret_value())]
    for name, value in environ.items():
        base = name.removesuffix("_FILE")
        text = _read_file(base, environ) if base != name and not environ.get(base) else ""
        found += _find_secrets(base, text) if text else _find_secrets(name, value)
    return found


def _find_secrets(name: str, value: str) -> list[str]:
    """Return what is secret of the value of a variable."""
    if name in NOT_SECRET or not value:
        return []
    if is_secret_key(name) or name.endswith("_KEY"):
        return [value]
    if "://" not in value or "@" not in value:
        return []
    try:
        password = urlsplit(value).password
    except ValueError:
        return []
    return [password, unquote(password)] if password else []


def _read_file(name: str, environ: Mapping[str, str]) -> str:
    """Return the text of the file that `<name>_FILE` names, empty if it can't be read.

    Only a regular file is read: a pipe has no end while its writer lives.
    """
    try:
        is_regular = Path(environ[f"{name}_FILE"]).is_file()
        return (read_variable(name, environ) or "") if is_regular else ""
    except (Exit, OSError, ValueError):  # its folder is not ours to look into, or the name can't be one
        return ""
