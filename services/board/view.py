"""Format values for pages: the filters of the templates. Pure."""

from collections.abc import Callable, Mapping
from typing import Any, Final

from marketswarm.text import format_duration

FILTERS: Final[Mapping[str, Callable[..., Any]]] = {"duration": format_duration}
"""By the name in a template, the function that a filter calls with the value."""
