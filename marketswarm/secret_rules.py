"""The rules by which secrets are found in a text, and what stands in their place. Pure.

Three kinds of rules: forms that are known (keys of well-known services, private keys, signed tokens), places
that hold a secret (a URL's user, a header, a variable called `…_PASSWORD`), and text that looks random. Each
expression takes time that grows as its text. `redactor.py` cuts texts, and applies the rules to them.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

Replacement = str | Callable[[re.Match[str]], str]
REMOVED: Final = "[removed]"
_KEEP_FIRST: Final = rf"\1{REMOVED}"
_KEEP_TWO: Final = rf"\1\2{REMOVED}"
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
    # the end of a word, as in DBPASS; its first letter is asked for first, since that costs the least
    r"(?=p)(?<=[A-Za-z0-9])(?<!\bby)(?<!\bcom)(?<!\bsur)(?<!\btres)(?:pass|passwd|pwd?)(?![A-Za-z0-9_.-])|"
    r"(?-i:(?:[Pp]assword|PASSWORD|[Pp]asswd|PASSWD|[Pp]assphrase|PASSPHRASE|[Pp]asscode|PASSCODE|[a-z]Pass|"
    r"[a-z]Pwd)[A-Za-z0-9_]{0,60}))"
)
_QUOTED: Final = r'"(?:[^"\\]|\\.)*"?|' + r"'(?:[^'\\]|\\.)*'?"
_BRACKETS: Final = r"\((?=[^)\n]{0,300}[\"'])[^)\n]{1,300}+\)?|\[(?=[^\]\n]{0,300}[\"'])[^\]\n]{1,300}+\]?"
"""Several values, one of them in quotes, such as `('bob', 'password')`."""
ASSIGNED_QUOTED: Final = re.compile(
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
BLOCK_BEGIN: Final = re.compile(
    rf"(?i)(?:{_NAME}|{_CAMEL}|{_PASSWORDS})[\"']?\s{{0,9}}:\s{{1,9}}[|>][+-]?\d?[+-]?\s{{0,9}}$"
)
"""The key of a text of several lines in YAML, which are further in than the key."""
_EQUAL_LETTERS: Final = {0x130: "i", 0x131: "i", 0x17F: "s", 0x212A: "k"}
"""Letters beside those of ASCII that an expression which ignores case takes for one of them."""
_NAME_STEMS: Final = (
    "pass", "pw", "psk", "secret", "token", "key", "cred", "auth", "cookie", "sess", "sid", "jwt", "otp",
    "pin", "salt", "sig", "hmac", "webhook", "dsn", "conn", "mnemonic", "seed",
)  # fmt: skip
"""Every name of `_NAME` and `_CAMEL` has one of these."""
_PASSWORD_STEMS: Final = ("pass", "pw", "psk", "kennwort", "wachtwoord", "contrase", "senha")
_QUOTES: Final = ('"', "'")
_ACL_PASSWORD: Final = re.compile(r"(\s[><#!])\S+")
_SECRET_COLUMN: Final = re.compile(rf"(?i){_NAME}|{_CAMEL}|{_PASSWORDS}")
_PIECE: Final = re.compile(r"[A-Za-z0-9]+")
_LONG_PIECE: Final = 16
_LONG_LETTERS: Final = 24
_LEAST_RATE: Final = 0.18
"""The share of places at which a random text changes its kind of character; names do so less often."""
_LONG_RUN: Final = 20


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


def keep_harmless(match: re.Match[str]) -> str:
    """Keep a value that can't be a secret, such as `token: expired`."""
    value = match[2].strip("\\\"' .,;:)}&")
    is_count = value.isdigit() and _COUNT.search(match[1]) is not None
    return match[0] if not value or is_count or _HARMLESS_VALUE.fullmatch(value) else match[1] + REMOVED


@dataclass(frozen=True, slots=True)
class Rule:
    """One kind of secret: the expression that finds it, what stands in its place, and what it needs.

    `needed` are groups of words in small letters: a text that lacks all words of one group has no such
    secret, and is not searched for it. To look for a word costs a fiftieth of a search.
    """

    pattern: re.Pattern[str]
    replacement: Replacement
    needed: tuple[tuple[str, ...], ...] = ()

    def may_change(self, folded: str) -> bool:
        """Return False only if the rule changes nothing in a text; `folded` is that by `fold_case`."""
        return all(any(word in folded for word in words) for words in self.needed)


def _compile(pattern: str, replacement: Replacement, *needed: tuple[str, ...]) -> Rule:
    return Rule(re.compile(pattern), replacement, needed)


def fold_case(text: str) -> str:
    """Return a text in small letters, and those letters in ASCII that expressions take for equal to them."""
    return (text if text.isascii() else text.translate(_EQUAL_LETTERS)).lower()


RULES: Final = {
    "color": _compile(r"\x1b\[[0-9;]{0,20}[A-Za-z]", "", ("\x1b",)),
    "url_blank": _compile(
        r"((?<![A-Za-z0-9+.-])[A-Za-z][A-Za-z0-9+.-]{0,30}+://[^\s:/@]{0,100}+:)(?!\d{1,5}(?:[\s/]|$))"
        r"[^\s@\"'<>`]{1,100}+(?: [^\s@\"'<>`]{1,100}+){1,3}+@(?=[\w\[])",
        rf"\1{REMOVED}@",
        ("://",),
        ("@",),
    ),
    "url_user": _compile(
        r"((?<![A-Za-z0-9+.-])[A-Za-z0-9+.-]{0,60}:(?://|\\/\\/))([^\s\"'<>`]*+)",
        _remove_user,
        ("://", ":\\/\\/"),
        ("@", "%40"),
    ),
    "url_quoted": _compile(
        r"(?i)((?<![a-z0-9+.-])[a-z0-9+.-]{1,60}%3A%2F%2F)([^\s\"'<>&]*+)",
        _remove_user,
        ("%3a%2f%2f",),
        ("@", "%40"),
    ),
    "user_at_host": _compile(
        r"(\b[\w.-]{1,60}:)[^\s:@/\"']{1,100}@(?=[\w(\[])", rf"\1{REMOVED}@", (":",), ("@",)
    ),
    "url_secret_path": _compile(
        r"(hooks\.slack\.com/(?:services|workflows)/|discord(?:app)?\.com/api/webhooks/|hc-ping\.com/|"
        r"webhook\.office\.com/|outlook\.office\.com/webhook/|api\.telegram\.org/(?:file/)?bot|"
        r"hooks\.zapier\.com/hooks/catch/|maker\.ifttt\.com/[^\s]{0,100}?/key/|/api/v1/ping/|/ping/)[^\s\"'<>?]+",
        _KEEP_FIRST,
        ("hooks.", "discord", "hc-ping.com/", "office.com/", "telegram.org/", "ifttt.com/", "/ping/"),
    ),
    "query": _compile(
        rf"(?i)([?&;](?:[\w.-]{{0,40}}(?:{_NAME}|{_CAMEL})|key|code|X-Amz-[A-Za-z-]+|sv|se|sp)=)[^&\s\"'<>;#]+",
        _KEEP_FIRST,
        ("=",),
        ("?", "&", ";"),
    ),
    "header": _compile(
        r"(?i)(\b(?:proxy-)?authorization|\b(?:set-)?cookie|"
        r"\bx-(?:api|auth|access|amz|csrf|vault|goog|shopify)[a-z-]{0,60}+|\bapi-key|\bprivate-token|\bdd-api-key|\bstripe-signature)"
        rf"(\\?[\"']?\s{{0,20}}[:=]\s{{0,20}})(\\\"(?:[^\"\\])*\\\"|{_QUOTED}|[^\n]+)",
        _KEEP_TWO,
        ("authorization", "cookie", "x-", "api-key", "private-token", "stripe-signature"),
        (":", "="),
    ),
    "scheme": _compile(
        r"(?i)\b(bearer|basic|digest|negotiate|ntlm|apikey)(\s+)[A-Za-z0-9._~+/=:-]{6,}",
        _KEEP_TWO,
        ("bearer", "basic", "digest", "negotiate", "ntlm", "apikey"),
    ),
    "phrase": _compile(
        r"(?i)((?:passphrase|mnemonic|seed[ _-]?phrase|recovery[ _-]?(?:phrase|codes?))\\?[\"']?\s{0,20}"
        r"(?:[:=]|is)\s{0,20})[^\n]+",
        _KEEP_FIRST,
        ("passphrase", "mnemonic", "seed", "recovery"),
    ),
    "xml": _compile(
        rf"(?i)(<[\w.:-]{{0,40}}(?:{_NAME}|{_CAMEL})(?:\s[^<>]{{0,200}})?>)[^<]+",
        _KEEP_FIRST,
        ("<",),
        (">",),
        _NAME_STEMS,
    ),
    "hash": _compile(
        r"(?i)\$(?:1|2[abxy]?|5|6|7|y|gy|apr1|P|H|argon2(?:id?|d)|scrypt|pbkdf2[a-z0-9-]*|bcrypt-sha256)"
        r"\$[^\s:\"',]+"
        r"|\b(?:pbkdf2|scrypt|argon2|bcrypt|sha1|sha256|md5)[a-z0-9_:]{0,40}\$[^\s\"',]+"
        r"|\bSCRAM-SHA-\d+\$[^\s\"',]+|\{S?(?:SHA|MD5|CRYPT|SSHA\d*)\}[^\s\"',]+",
        REMOVED,
        ("$", "{"),
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
        r"(?is)(pass.{0,80}?(?<![A-Za-z]))(?-i:[a-z]{4}(?: [a-z]{4}){3})(?![A-Za-z])", _KEEP_FIRST, ("pass",)
    ),
    "redis_wire": _compile(
        r"(?i)(\bAUTH\s{1,4}\$\d{1,9}\s{1,4})\S+(?:\s{1,4}\$\d{1,9}\s{1,4}\S+)?",
        _KEEP_FIRST,
        ("auth",),
        ("$",),
    ),
    "redis_monitor": _compile(r"(?i)(\"(?:AUTH|HELLO)\"\s)[^\n]+", _KEEP_FIRST, ('"auth"', '"hello"')),
    "redis_acl": _compile(
        r"(?i)(\bsetuser\b[^\n]*)", lambda match: _ACL_PASSWORD.sub(rf"\1{REMOVED}", match[0]), ("setuser",)
    ),
    "sql": _compile(
        r"(?i)(\b(?:identified\s+by|password)\s+)(?:'[^'\n]*'|\"[^\"\n]*\")",
        _KEEP_FIRST,
        ("identified", "password"),
    ),
    "insert": _compile(
        r"(?i)(\binsert\s{1,9}into\s[^()\n]{1,80}+\()([^()\n]{1,500}+)(\)\s{0,9}values?\b)[^\n]+",
        _remove_row,
        ("insert",),
        ("into",),
    ),
    "oracle": _compile(
        r"(?i)(\bjdbc:oracle:\w{1,20}:|\bsqlplus\s{1,9}(?:-\w\s{1,9})?)[^\s\"'@/]{1,100}/[^\s\"'@]{1,100}",
        _KEEP_FIRST,
        ("jdbc:oracle:", "sqlplus"),
    ),
    "made": _compile(
        r"(\b(?:Secret(?:Str|Bytes)?|(?:HTTP)?(?:Basic|Digest|Proxy)Auth)\()(?=[^)\n]{0,300}[\"'])[^)\n]{1,300}",
        _KEEP_FIRST,
        ("(",),
        ("secret", "auth"),
    ),
    "called": _compile(
        r"(?i)(\b(?:connect|login|authenticate|auth|sign_?in|set_auth|basic_auth)\()([^)\n]{1,300}+)",
        _remove_arguments,
        ("connect(", "login(", "auth(", "authenticate(", "sign_in(", "signin("),
    ),
    "pair": _compile(
        rf"(?i)([\[(]\s{{0,9}}\\?[\"'](?:[A-Za-z0-9_.-]{{0,40}}(?:{_NAME}|{_CAMEL}))\\?[\"']\s{{0,9}},\s{{0,9}})"
        rf"(?:\\\"[^\"\\]*\\\"|{_QUOTED})",
        _KEEP_FIRST,
        ("[", "("),
        _QUOTES,
        _NAME_STEMS,
    ),
    "value_first": _compile(
        r"(?i)(\bvalue\\?[\"']?\s{0,9}[:=]\s{0,9})(?:\\?\"[^\"\n]{0,300}+\"|'[^'\n]{0,300}+'|[^\s\"',;]{1,300}+)"
        rf"(?=[\s,;]{{1,20}}\\?[\"']?(?:name|key)\\?[\"']?\s{{0,9}}[:=]\s{{0,9}}\\?[\"']?[\w.-]{{0,40}}(?:{_NAME}|{_CAMEL}))",
        _KEEP_FIRST,
        ("value",),
        ("name", "key"),
        _NAME_STEMS,
    ),
    "named": _compile(
        rf"(?i)(\b(?:name|key)\\?[\"']?\s{{0,9}}[:=]\s{{0,9}}\\?[\"']?[\w.-]{{0,40}}(?:{_NAME}|{_CAMEL})\\?[\"']?"
        rf"[\s,;/-]{{0,40}}\\?[\"']?value\\?[\"']?\s{{0,9}}[:=]\s{{0,9}})(?:\\\"[^\"\\]*\\\"|{_QUOTED}|\S+)",
        _KEEP_FIRST,
        ("value",),
        ("name", "key"),
        _NAME_STEMS,
    ),
    "variable": _compile(
        r"(\b[A-Z0-9_]{0,40}(?:PASSWORD|PASSWD|SECRET|TOKEN|_KEY)[A-Z0-9_]{0,40}[ \t]+)[^\s=:\"']\S*",
        _KEEP_FIRST,
        ("password", "passwd", "secret", "token", "_key"),
    ),
    "netrc": _compile(
        r"(?i)(\b(?:machine|login)\s+\S{1,80}[^\n]{0,200}?\bpassword\s+)\S+",
        _KEEP_FIRST,
        ("machine", "login"),
        ("password",),
    ),
    "pgpass": _compile(
        r"((?<![\w.-])[\w.-]{1,80}:(?:\d{2,5}|\*):[\w*-]{1,63}:[\w*-]{1,63}:)[^\s:]+", _KEEP_FIRST, (":",)
    ),
    "redis": _compile(
        r"((?:^|[\s\"'>])(?:AUTH|HELLO[ \t]+[23][ \t]+AUTH|requirepass|masterauth|"
        r"CONFIG[ \t]+SET[ \t]+\w*pass\w*)[ \t]+)"
        r"(?:\"[^\"\n]*\"|[^\s\"']+(?:[ \t]+[^\s\"']+)?)",
        _KEEP_FIRST,
        ("auth", "requirepass", "masterauth", "config"),
    ),
    "glued": _compile(
        r"(\b(?:mysql|mysqldump|mariadb|sshpass)\b[^\n]{0,200}?\s-p)(?:\s{0,9})(?:['\"][^'\"]+['\"]|\S+)",
        _KEEP_FIRST,
        ("mysql", "mariadb", "sshpass"),
    ),
    "glued_user": _compile(
        r"((?<![A-Za-z0-9-])-u)[^\s:\"'=-][^\s:\"']{0,60}:[^\s\"']+", _KEEP_FIRST, ("-u",), (":",)
    ),
    "flag": _compile(
        rf"(?i)((?<![A-Za-z0-9-])--?(?:[A-Za-z0-9-]{{0,40}}{_NAME}|user|u|a)(?:\s+|=))(?:{_QUOTED}|[^\s\"']+)",
        _KEEP_FIRST,
        ("-",),
    ),
    "password_number": _compile(
        rf"(?i)({_PASSWORDS}\\?[\"']\s{{0,20}}:\s{{0,20}})\d[\d.]*(?=\s{{0,20}}(?:,\s{{0,20}}\\?[\"']|[}}\]]))",
        _KEEP_FIRST,
        _PASSWORD_STEMS,
        (":",),
    ),
    "password": _compile(
        rf"(?im)({_PASSWORDS}\\?[\"']?\]?\s{{0,20}}==?(?![>\s]))(\\\"[^\"\\]*\\\"|{_QUOTED}|{_BRACKETS}|{_RUN})",
        keep_harmless,
        _PASSWORD_STEMS,
        ("=",),
    ),
    "password_line": _compile(
        rf"(?im)({_PASSWORDS}\\?[\"']?\]?\s{{0,20}}(?:=>|:=|:|==?[ \t])\s{{0,20}})"
        rf"(\\\"[^\"\\]*\\\"|{_QUOTED}|{_BRACKETS}|{_HARMLESS}(?=[\"']?\s{{0,20}}(?:[,;&)}}\].]{{1,9}}(?:[\s\"']|$)|$))|{_REST})",
        keep_harmless,
        _PASSWORD_STEMS,
        (":", "="),
    ),
    "assigned": _compile(
        rf"(?i)((?:{_NAME}|{_CAMEL})\\?[\"']?\]?\s{{0,20}}(?:=>|:=|==?|:)\s{{0,20}})"
        rf"(\\\"[^\"\\]*\\\"|{_QUOTED}|{_BRACKETS}|\[removed\]|[^\s,;&\"')}}\]]+)",
        keep_harmless,
        _NAME_STEMS,
        (":", "="),
    ),
    "prose": _compile(
        r"(?i)(\b(?:passw(?:or)?d|passcode|secret|token|api key|pin|otp|code)\s{1,9}"
        r"(?:is|was|to|with value)\s{1,9}(?:now\s{1,9})?[:=]?\s{0,9})"
        r"(\"[^\"\n]+\"|'[^'\n]+'|\S+)",
        keep_harmless,
        ("pass", "secret", "token", "key", "pin", "otp", "code"),
        ("is", "was", "to", "with"),
    ),
    "after_word": _compile(
        r"(?i)(\b(?:password|passwd|passwort|passcode|secret|token|key)\s{1,9}(?:for\s[^\s:]{1,60}:\s{0,9})?)"
        r"(\"[^\"\n]+\"|'[^'\n]+'|(?<=:\s)\S+|(?=[^\s]{0,80}\d)(?=[^\s]{0,80}[A-Za-z])[^\s,;\"'()]{6,})",
        _KEEP_FIRST,
        ("pass", "secret", "token", "key"),
    ),
    "uuid": _compile(r"(?i)\b[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}\b", REMOVED, ("-",)),
    "run": _compile(
        r"[A-Za-z0-9+/=_-]{16,512}", lambda match: REMOVED if looks_random(match[0]) else match[0]
    ),
}
"""The rules by what they find, in the order in which they are applied."""


def looks_random(run: str) -> bool:
    """Return True if a run of letters, digits and the signs of base64 is not a name, path or number."""
    pieces = _PIECE.findall(run)
    if any(map(_is_random_piece, pieces)):
        return True
    # base64 has signs between its letters, so no piece of it may be long
    mixed = sum(len(each) for each in pieces if has_mixed_kinds(each))
    return len(run) >= _LONG_RUN and mixed >= len(run) / 2 and _measure_rate("".join(pieces)) >= _LEAST_RATE


def has_mixed_kinds(piece: str) -> bool:
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
