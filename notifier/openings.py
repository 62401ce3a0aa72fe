"""Which channels are to be open, by the truth in force or else the environment; what is wrong with others."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final

from marketswarm.channels import Channel, open_channels
from marketswarm.channels.opening import ChannelError, make
from marketswarm.exit import Code, Exit
from marketswarm.settings import ChannelSettings, variable
from marketswarm.truth.env_policy import Refused, resolved

TYPE: Final = "type"


@dataclass(frozen=True, slots=True)
class Wanted:
    """The channels that the truth names, their options with all secrets in them, and why others can't be had.

    `options` is None when the truth names none: then the environment's are meant.
    """

    options: Mapping[str, Mapping[str, Any]] | None = field(repr=False)
    wrong: Mapping[str, str]

    def same(self, other: "Wanted", name: str) -> bool:
        """Whether a channel is to be as the other one has it."""
        if self.options is None or other.options is None:
            return self.options is other.options
        return name in self.options and self.options[name] == other.options.get(name)


class Environ(Mapping[str, str]):
    """Variables and the files that their `_FILE` twins name."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ

    def __getitem__(self, name: str) -> str:
        found = variable(name, self._environ)
        if found is None:
            raise KeyError(name)
        return found

    def __iter__(self) -> Iterator[str]:
        return iter(self._environ)

    def __len__(self) -> int:
        return len(self._environ)


def wanted(channels: Mapping[str, Mapping[str, Any]], environ: Mapping[str, str]) -> Wanted:
    """What the truth's `channels` come to in this environment."""
    if not channels:
        return Wanted(None, {})
    options: dict[str, Mapping[str, Any]] = {}
    wrong: dict[str, str] = {}
    for name, raw in channels.items():
        try:
            options[name] = resolved(raw, Environ(environ))
        except Refused as error:
            wrong[name] = f"{name}.{error}"
        except LookupError as error:
            wrong[name] = f"{name}: {error.args[0]}"
        except Exit as error:  # a file that can't be read
            wrong[name] = f"{name}: {error.message}"
    return Wanted(options, wrong)


def opened(
    want: Wanted, settings: ChannelSettings, keep: Mapping[str, Channel] = MappingProxyType({})
) -> tuple[dict[str, Channel], dict[str, str]]:
    """The channels, not connected yet, and by name what is wrong with those that can't be made.

    Those to `keep` are as they are to be.

    Raises:
        Exit: code 2, when the environment names one that can't be made.
    """
    if want.options is None:
        return dict(keep) or {channel.name: channel for channel in open_channels(settings)}, {}
    found: dict[str, Channel] = {}
    wrong = dict(want.wrong)
    for name in want.options:
        try:
            found[name] = keep[name] if name in keep else made(want, name)
        except ChannelError as error:
            wrong[name] = str(error)
    return found, wrong


def made(want: Wanted, name: str) -> Channel:
    """One channel of the truth. Raises ChannelError, which names it."""
    given = dict((want.options or {})[name])
    kind = given.pop(TYPE, None)
    if not isinstance(kind, str):
        raise ChannelError(f'{name}: {TYPE}: is missing; one is "slack"')
    return make(kind, name, given)


def at_least_one(found: Mapping[str, Channel], wrong: Mapping[str, str]) -> None:
    """Raises Exit, code 2, when channels are named and none of them can be had."""
    if wrong and not found:
        words = "; ".join(f"services.notifier.settings.channels.{why}" for why in wrong.values())
        raise Exit(Code.CONFIGURATION, words)
