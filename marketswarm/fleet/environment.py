"""Choose the environment of each child of a fleet, so that no child gets the secrets of another.

Each child gets harmless variables (PATH, LANG …) and those that its program declares: our own agents declare
them by their settings, a service by its `ServiceConfig.variables`. A service that declares nothing gets all
variables but those of our own programs.
"""

from collections.abc import Collection, Iterable, Mapping
from fnmatch import fnmatchcase
from typing import Final

from marketswarm.agent.service_config import find_model
from marketswarm.bus import get_url_variable
from marketswarm.settings import CommonSettings, list_variables
from marketswarm.settings.programs import HealerSettings, NotifierSettings, SentinelSettings
from marketswarm.truth import Service, Truth
from marketswarm.truth.credentials import parse_reference
from marketswarm.truth.env_policy import PREFIX, is_feed_variable

# fmt: off
HARMLESS: Final = frozenset({
    "PATH", "HOME", "USER", "LOGNAME", "SHELL", "TERM", "LANG", "LANGUAGE", "TZ", "TMPDIR", "NO_COLOR",
    "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "http_proxy", "https_proxy",
    "all_proxy", "no_proxy",
    "SSL_CERT_FILE", "SSL_CERT_DIR", "LD_LIBRARY_PATH", "VIRTUAL_ENV",
})
# fmt: on
HARMLESS_PREFIXES: Final = ("LC_", "PYTHON", "MARKETSWARM_", "COVERAGE_")
_OF_JOIN: Final = "MARKETSWARM_JOIN_"
"""Variables of `marketswarm join` alone: the password by which this machine beats in another fleet."""
OUR_SETTINGS: Final[Mapping[str, type[CommonSettings]]] = {
    "healer": HealerSettings,
    "sentinel": SentinelSettings,
    "notifier": NotifierSettings,
    "bootstrap": CommonSettings,
}
"""The settings of our own programs, by module: their fields are the variables that a program declares."""
TRACED: Final = frozenset({"healer", "sentinel", "notifier"})
OPENTELEMETRY: Final = "OTEL_*"
"""The programs that record traces, and the variables that they and the SDK of OpenTelemetry read for that."""
_BUS_URL_SUFFIXES: Final = ("_REDIS_URL", "_REDIS_URL_FILE")
"""Ends of the names of variables with the URL of a bus; every child gets these."""
_SERVICE_SECRETS: Final = frozenset({"POLYGON_API_KEY", "VEXY_LLM_URL", "VEXY_LLM_KEY"})
"""Variables with secrets of the services that come with the product."""


def make_server_environ(environ: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in environ.items() if is_harmless(name)}


def make_child_environ(module: str, svc: str, truth: Truth, environ: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of a service's program; `environ` is the one of `marketswarm up`.

    Every program gets the variables that the truth names for a bus; a service also those that its own section
    names.
    """
    declared = _find_declared_variables(module, svc)
    buses = truth.bus_names()
    known = set(list_variables(CommonSettings)) | set(map(get_url_variable, buses))
    known |= set(_find_references([truth.bus_url(name) for name in buses]))
    section = truth.services.get(svc)
    if declared is not None and section is not None:
        declared |= _find_variables_of(svc, section)
    if section is not None and svc not in OUR_SETTINGS:  # the notifier declares its channels' variables
        known |= set(_find_references([section.endpoints, section.settings]))
    if declared is None:
        kept = known | {name for name in environ if not _is_our_setting(name)}
    else:
        kept = known | {name for name in environ if _matches_any(name, declared)}
    return {name: value for name, value in environ.items() if _matches_any(name, kept) or is_harmless(name)}


def is_harmless(name: str) -> bool:
    return name in HARMLESS or (name.startswith(HARMLESS_PREFIXES) and not name.startswith(_OF_JOIN))


def _find_declared_variables(module: str, svc: str) -> frozenset[str] | None:
    """Return the names and patterns of the variables that a program declares; None if it declares none."""
    if module in OUR_SETTINGS:
        more = {f"{PREFIX}*"} if module == "notifier" else set[str]()
        if module in TRACED:
            more |= {OPENTELEMETRY}
        return frozenset(list_variables(OUR_SETTINGS[module]) | more)
    try:
        model = find_model(svc)
    except Exception:  # noqa: BLE001 - a user's module that can't be loaded: its program will say so
        return None
    return model.variables if model is not None else None


def _find_variables_of(svc: str, section: Service) -> frozenset[str]:
    """Return the variables that a service's model finds by its section."""
    try:
        model = find_model(svc)
        return model.find_variables(section) if model is not None else frozenset()
    except Exception:  # noqa: BLE001 - a user's module that can't be loaded: its program will say so
        return frozenset()


def _matches_any(name: str, names: Collection[str]) -> bool:
    """Return True if a variable is among `names`, which may be patterns such as `MY_*`.

    `<NAME>_FILE` counts as `<NAME>`. A variable with the URL of a bus (`…_REDIS_URL`) is always among them.
    """
    plain = name.removesuffix("_FILE")
    if name in names or plain in names or name.endswith(_BUS_URL_SUFFIXES):
        return True
    return any("*" in each and fnmatchcase(plain, each) for each in names)


def _is_our_setting(name: str) -> bool:
    plain = name.removesuffix("_FILE")
    ours = _SERVICE_SECRETS.union(*map(list_variables, OUR_SETTINGS.values()))
    return plain in ours or name.startswith((PREFIX, _OF_JOIN)) or is_feed_variable(plain)


def _find_references(value: object) -> Iterable[str]:
    name = parse_reference(value)
    if name is not None:
        yield name
    elif isinstance(value, Mapping):
        for inner in value.values():
            yield from _find_references(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _find_references(inner)
