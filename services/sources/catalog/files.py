"""Load the catalogue: every source that we have a file of."""

import tomllib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Final

from pydantic import ValidationError

from services.sources.catalog.source import MarketSource

FOLDER: Final = Path(__file__).parent


class CatalogError(Exception):
    """A file of the catalogue is wrong; `str()` names it, the places in it, and why."""


def load_source(path: Path) -> MarketSource:
    """Return the source of a file, which is named after it. Raise CatalogError."""
    try:
        source = MarketSource.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise CatalogError(f"{path.name}: {error}") from error
    except ValidationError as error:
        found = (f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors())
        raise CatalogError(f"{path.name}: {'; '.join(found)}") from error
    if source.name != path.stem:
        raise CatalogError(f"{path.name}: name: {source.name!r} is not the file's name")
    return source


@cache
def shipped_catalog() -> Mapping[str, MarketSource]:
    """Return the sources that this program brings by name, sorted, loaded once. Raise CatalogError."""
    return {path.stem: load_source(path) for path in sorted(FOLDER.glob("*.toml"))}


def load_catalog(folder: str | None) -> tuple[Mapping[str, MarketSource], list[str]]:
    """Return the shipped sources with those of a folder, and what is wrong with the folder or its files.

    A file there takes the place of a shipped one of its name; one that is wrong is left out, and a shipped
    one stays.
    """
    shipped = shipped_catalog()
    if folder is None:
        return shipped, []
    if not Path(folder).is_dir():
        return shipped, [f"{folder} is not a folder here, so its sources are unknown"]
    own, problems = dict[str, MarketSource](), list[str]()
    for path in sorted(Path(folder).glob("*.toml")):
        try:
            own[path.stem] = load_source(path)
        except CatalogError as error:
            problems.append(str(error))
    return {**shipped, **own}, problems
