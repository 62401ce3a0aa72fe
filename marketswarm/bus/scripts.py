"""Read Lua scripts from `.lua` files beside the code, and wrap them as Redis functions.

Seeding loads every script of the tree into each bus as a function (`seeding/functions.py`); agents call it by
name (`Bus.script`). The name carries a digest of the source, so the functions of two releases can be on one
server side by side. In a script, `-- include: fence.lua` is replaced by that file beside it, and `-- include:
marketswarm.bus/lease.lua` by a file of that package; `-- flags: no-writes` gives its function one of Redis'
flags.
"""

import contextlib
import hashlib
import os
import re
import sys
from importlib import import_module
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Final

PACKAGES: Final = ("marketswarm", "bootstrap", "healer", "sentinel", "notifier", "services")
"""Packages whose scripts seeding loads; users' own services are in `services`."""
FUNCTION_PREFIX: Final = "marketswarm_"
"""The beginning of the names of our functions."""
DIGEST_DIGITS: Final = 12
"""Hexadecimal digits of the digest at the end of a function's name."""

_INCLUDE: Final = re.compile(r"^-- include: (\S+)\n", re.MULTILINE)
_FLAGS: Final = re.compile(r"^-- flags: (\S.*)\n", re.MULTILINE)
_NO_WORD_CHARACTER: Final = re.compile(r"\W", re.ASCII)
_OUR_SERVICES: Final = Path(__file__).parents[2] / "services"
# Lua code that sets the options of cjson; put before each script that uses cjson
_CJSON: Final = """\
-- settings of cjson last for every later script on the server: set what this one relies on
for setting, value in pairs({ decode_max_depth = 1000, decode_invalid_numbers = true, encode_max_depth = 1000,
    encode_number_precision = 14, encode_invalid_numbers = false }) do
  if cjson[setting] then
    cjson[setting](value)
  end
end
if cjson.encode_sparse_array then
  cjson.encode_sparse_array(false, 2, 10)
end
"""


class Script:
    """A Lua script. If it was read from a file, `Bus.script` calls it as a function of the seeded bus.

    A script that uses cjson begins by setting cjson's options, since those that an earlier script set would
    still be in force.

    Args:
        text: the Lua source, with its includes replaced.
        name: the beginning of its function's name; empty for a script without a file.
    """

    def __init__(self, text: str, name: str = "") -> None:
        self.text = (_CJSON if "cjson." in text else "") + text
        flags = (flag for found in _FLAGS.findall(text) for flag in found.split())
        self._flags = ", ".join(f"'{flag}'" for flag in flags)
        digest = hashlib.sha256(f"{self._flags}\n{self.text}".encode()).hexdigest()[:DIGEST_DIGITS]
        self.function = f"{name}_{digest}" if name else ""
        """The name of the script's function and of its library; empty for a script without a file."""

    @classmethod
    def beside(cls, package: str, file: str) -> "Script":
        path = _find_file(package, file)
        return cls(_expand_includes(path.read_text("utf-8"), path.parent), _make_function_name(package, file))

    @property
    def library(self) -> str:
        """The source of its library, without the first line, which names the library."""
        return (
            f"redis.register_function{{function_name = '{self.function}', flags = {{{self._flags}}},\n"
            f"callback = function(KEYS, ARGV)\n{self.text}\nend}}\n"
        )


def load_all_scripts() -> dict[str, Script]:
    """Return every script of this installation and of the services in the current folder, by function name.

    Files that other scripts include are left out, and so are hidden ones. Raises OSError if a file can't be
    read.
    """
    found = {}
    places = [(package, place) for package in PACKAGES for place in find_package_folders(package)]
    texts = {
        path: path.read_text("utf-8", "replace")
        for _, place in places
        for path in place.rglob("*.lua")
        if not any(part.startswith(".") for part in path.relative_to(place).parts)
    }
    included = {
        _find_included(name, path.parent).resolve()
        for path, text in texts.items()
        for name in _INCLUDE.findall(text)
    }
    for package, place in places:
        for path in sorted(path for path in texts if path.is_relative_to(place)):
            if path.resolve() not in included:
                within = ".".join((package, *path.parent.relative_to(place).parts))
                script = Script(
                    _expand_includes(texts[path], path.parent), _make_function_name(within, path.name)
                )
                found[script.function] = script
    return found


def find_package_folders(package: str) -> list[Path]:
    """Return the folders of a package in which `python -m`, started in the current folder, finds modules."""
    path = list(sys.path)
    if not sys.flags.safe_path:
        with contextlib.suppress(OSError):  # that folder was removed
            path.insert(0, os.getcwd())  # noqa: PTH109 - an entry of sys.path is text
    spec = PathFinder.find_spec(package, path)
    places = [Path(place) for place in (spec.submodule_search_locations or [])] if spec else []
    # `services` is a namespace package, so each of its folders counts
    if _OUR_SERVICES in places and package == _OUR_SERVICES.name:
        places += [Path(entry, package) for entry in path if Path(entry, package) not in places]
    return places


def _make_function_name(package: str, file: str) -> str:
    path = f"{package}.{file.removesuffix('.lua')}".removeprefix("marketswarm.")
    return FUNCTION_PREFIX + _NO_WORD_CHARACTER.sub("_", path)


def _expand_includes(text: str, folder: Path) -> str:
    return _INCLUDE.sub(lambda found: _find_included(found[1], folder).read_text("utf-8"), text)


def _find_included(name: str, folder: Path) -> Path:
    """Return the file that a script in `folder` includes: one beside it, or `package/file` of any package."""
    package, _, file = name.rpartition("/")
    return _find_file(package, file) if package else folder / file


def _find_file(package: str, file: str) -> Path:
    """Return the path of a file in a package, from the first of its folders that has such a file."""
    paths = [Path(folder, file) for folder in import_module(package).__path__]
    return next((path for path in paths if path.is_file()), paths[0])
