"""What each child of the fleet has in its environment: what its program declares, and what does no harm.

A token that one agent needs is none of the others' business. Our own agents declare what they read by their
settings. A service of the user's declares names in its section's model (`Section.variables`), or gets all but
what is ours to keep: the variables of the other programs.
"""

from collections.abc import Collection, Iterable, Mapping
from fnmatch import fnmatchcase
from typing import Final

from marketswarm.agent.service_config import model_of
from marketswarm.bus import variable_of
from marketswarm.settings import (
    CommonSettings,
    HealerSettings,
    NotifierSettings,
    SentinelSettings,
    variables_of,
)
from marketswarm.truth import Truth
from marketswarm.truth.credentials import reference_in
from marketswarm.truth.env_policy import PREFIX, is_feed_variable

# fmt: off
HARMLESS: Final = frozenset({
    "PATH", "HOME", "USER", "LOGNAME", "SHELL", "TERM", "LANG", "LANGUAGE", "TZ", "TMPDIR", "NO_COLOR",
    "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "http_proxy", "https_proxy",
    "all_proxy", "no_proxy",
    "SSL_CERT_FILE", "SSL_CERT_DIR", "LD_LIBRARY_PATH", "VIRTUAL_ENV",
})
# fmt: on
PREFIXES: Final = ("LC_", "PYTHON", "MARKETSWARM_", "COVERAGE_")
OURS: Final[Mapping[str, type[CommonSettings]]] = {
    "healer": HealerSettings,
    "sentinel": SentinelSettings,
    "notifier": NotifierSettings,
    "bootstrap": CommonSettings,
}
"""Programs whose settings are known here, by module."""
_BUS: Final = ("_REDIS_URL", "_REDIS_URL_FILE")


def server_environ(environ: Mapping[str, str]) -> dict[str, str]:
    """What a Redis server gets."""
    return {name: value for name, value in environ.items() if is_harmless(name)}


def child_environ(module: str, svc: str, truth: Truth, environ: Mapping[str, str]) -> dict[str, str]:
    """What the program `module` of the service `svc` gets.

    Args:
        module: what is run, such as `healer` or `services.mesh`.
        svc: its name in the truth.
        truth: the document that the fleet was started with; what it names of the environment for a bus is
            for all, what it names in a service's section for that service alone.
        environ: of `marketswarm up`.
    """
    own = _declared(module, svc)
    known = set(variables_of(CommonSettings)) | _of_buses(truth)
    section = truth.services.get(svc)
    if section is not None and svc not in OURS:  # what a channel of the truth gets, the notifier declares
        known |= set(_named([section.endpoints, section.settings]))
    if own is None:
        kept = known | {name for name in environ if not _is_anothers(name)}
    else:
        kept = known | {name for name in environ if _is_in(name, own)}
    return {name: value for name, value in environ.items() if _is_in(name, kept) or is_harmless(name)}


def is_harmless(name: str) -> bool:
    """Whether everybody may have that variable."""
    return name in HARMLESS or name.startswith(PREFIXES)


def _declared(module: str, svc: str) -> frozenset[str] | None:
    """The variables that a program declares, names and patterns; None: it declares nothing."""
    if module in OURS:
        more = {f"{PREFIX}*"} if module == "notifier" else set[str]()
        return frozenset(variables_of(OURS[module]) | more)
    try:
        model = model_of(svc)
    except Exception:  # noqa: BLE001 - a user's module that can't be loaded: its program will say so
        return None
    return model.variables if model is not None else None


def _is_in(name: str, names: Collection[str]) -> bool:
    plain = name.removesuffix("_FILE")
    if name in names or plain in names or name.endswith(_BUS):
        return True
    return any("*" in each and fnmatchcase(plain, each) for each in names)


def _is_anothers(name: str) -> bool:
    """Whether a variable is one of our programs' own."""
    plain = name.removesuffix("_FILE")
    ours = {each for settings in OURS.values() for each in variables_of(settings)} | _SERVICES
    return plain in ours or name.startswith(PREFIX) or is_feed_variable(plain)


_SERVICES: Final = frozenset({"POLYGON_API_KEY", "VEXY_LLM_URL", "VEXY_LLM_KEY"})
"""Secrets of the services that come along."""


def _of_buses(truth: Truth) -> set[str]:
    urls = (truth.bus_url(name) for name in truth.bus_names())
    return {variable_of(name) for name in truth.bus_names()} | set(_named(list(urls)))


def _named(value: object) -> Iterable[str]:
    """The variables that `env:NAME` names in a value, at any depth."""
    name = reference_in(value)
    if name is not None:
        yield name
    elif isinstance(value, Mapping):
        for inner in value.values():
            yield from _named(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _named(inner)
