"""Read the keys of sources from the environment: each source's file names its variables."""

from collections.abc import Container, Iterable, Mapping

from marketswarm.exit import Code, Exit
from marketswarm.settings import read_variable
from services.sources.catalog.request import ApiKey
from services.sources.catalog.source import MarketSource


def read_keys(sources: Iterable[MarketSource], environ: Mapping[str, str]) -> dict[str, tuple[ApiKey, ...]]:
    """Return the keys of those sources that have some, by the source's name.

    Several keys of one source are separated by commas, and their secrets stand in the same order. As with
    every secret, `<NAME>_FILE` names a file with the value. Raises Exit, code 2, when a file can't be read,
    or a source has more or fewer secrets than keys.
    """
    found = {source.name: _read_keys_of(source, environ) for source in sources if source.auth.env}
    return {name: keys for name, keys in found.items() if keys}


def list_open(sources: Iterable[MarketSource], with_key: Container[str]) -> list[MarketSource]:
    """Return the sources that may be asked: those that need no key, and those whose key is set."""
    return [each for each in sources if not each.auth.is_key_needed or each.name in with_key]


def _read_keys_of(source: MarketSource, environ: Mapping[str, str]) -> tuple[ApiKey, ...]:
    """Return the keys of one source. Raise Exit."""
    auth = source.auth
    keys = _split(read_variable(auth.env, environ))
    if not auth.secret_env:
        return tuple(map(ApiKey, keys))
    secrets = _split(read_variable(auth.secret_env, environ))
    if len(secrets) != len(keys):
        problem = f"has {len(secrets)} secrets for the {len(keys)} keys of {auth.env}"
        raise Exit(Code.CONFIGURATION, f"{auth.secret_env}: {problem}")
    return tuple(ApiKey(key, secret) for key, secret in zip(keys, secrets, strict=True))


def _split(text: str | None) -> list[str]:
    return [each.strip() for each in (text or "").split(",") if each.strip()]
