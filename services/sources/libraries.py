"""Check that the libraries are installed that loading the market needs."""

from importlib.util import find_spec
from typing import Final

from marketswarm.agent import Code, Exit

LIBRARIES: Final = ("exchange_calendars", "jmespath", "websockets", "xmltodict")


def require_libraries() -> None:
    """Raise Exit, code 2, if a library is not installed that the sources need."""
    missing = [name for name in LIBRARIES if find_spec(name) is None]
    if missing:
        names = ", ".join(missing)
        why = (
            f"loading the market needs {names}: `make market`, or pip install 'marketswarm[services,market]'"
        )
        raise Exit(Code.CONFIGURATION, why)
