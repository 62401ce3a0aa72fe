"""The `_FILE` twins: a variable that may bear a secret can name a file that holds it instead."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, get_args

from pydantic import SecretStr
from pydantic.fields import FieldInfo
from pydantic_settings import PydanticBaseSettingsSource

from marketswarm.exit import Code, Exit

FILE_LIMIT: Final = 64 * 1024
"""Bytes; a secret is never longer, a wrong path may be."""


def variable(name: str, environ: Mapping[str, str]) -> str | None:
    """The value of `name`, else the content of the file that `<name>_FILE` names, else `None`.

    Raises:
        Exit: code 2, when the file can't be read.
    """
    if environ.get(name):
        return environ[name]
    path = environ.get(f"{name}_FILE")
    return _content(f"{name}_FILE", Path(path)) if path else None


class Twins(PydanticBaseSettingsSource):
    """Reads `<NAME>_FILE` for every field that may bear a secret."""

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        """See the library: the value, the name it goes by, and that it is not JSON."""
        name = field_name.upper()
        # the variable itself, if it is set, was read before and goes first
        return (variable(name, os.environ) if _may_be_secret(field_name, field) else None), field_name, False

    def __call__(self) -> dict[str, Any]:
        """See the library: what was found, by name."""
        found = {
            name: self.get_field_value(field, name)[0]
            for name, field in self.settings_cls.model_fields.items()
        }
        return {name: value for name, value in found.items() if value is not None}


def _may_be_secret(name: str, field: FieldInfo) -> bool:
    return name.endswith("_url") or _holds_secret(field.annotation)


def _holds_secret(annotation: Any) -> bool:
    return annotation is SecretStr or any(map(_holds_secret, get_args(annotation)))


def _content(variable_name: str, path: Path) -> str:
    try:
        with path.open("rb") as file:
            raw = file.read(FILE_LIMIT + 1)
        text = raw.decode()
    except OSError as error:
        raise Exit(
            Code.CONFIGURATION, f"{variable_name}: the file can't be read ({error.strerror})"
        ) from None
    except UnicodeDecodeError:
        raise Exit(Code.CONFIGURATION, f"{variable_name}: the file is not UTF-8 text") from None
    if len(raw) > FILE_LIMIT or not text.strip():
        found = "is empty" if len(raw) <= FILE_LIMIT else f"is longer than {FILE_LIMIT} bytes"
        raise Exit(Code.CONFIGURATION, f"{variable_name}: the file {found}")
    return text.strip()
