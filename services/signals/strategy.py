"""Define what a strategy is (one function over a view, and its parameters), and load one.

A strategy is a Python file with a function `decide(view)` and, if it has any, `PARAMETERS`. What it returns
are targets (percent of the equity by symbol), orders, or nothing. docs/services/backtest.md has examples.
"""

import hashlib
import re
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from pathlib import Path
from types import CodeType
from typing import TYPE_CHECKING, Any, Final, Literal

from services.signals.report import MAX_PARAMETERS, ParameterValue

if TYPE_CHECKING:  # a program that only checks parameters needs no numpy
    from services.signals.view import StrategyView

INSTALLED: Final = Path(__file__).parent / "strategies"
"""The folder of the strategies that are shipped."""
MAX_SOURCE_BYTES: Final = 1_000_000
_NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,62}")
Number = int | float | Decimal | str
"""A number as a strategy may give it; a text is a plain decimal."""


class StrategyError(ValueError):
    """A strategy can't be loaded or run, or decides what can't be done; the message has file and line."""


@dataclass(frozen=True, slots=True)
class Parameter:
    """Declare a parameter of a strategy, whose type is that of its default: bool, int, float or str.

    Attributes:
        what: what it means, in a sentence.
        least: the least value of a number.
        most: the greatest one.
        choices: the texts that it may be; empty for any.
    """

    default: bool | int | float | str
    what: str = ""
    least: float | None = None
    most: float | None = None
    choices: tuple[str, ...] = ()

    @property
    def kind(self) -> str:
        return type(self.default).__name__


@dataclass(frozen=True, slots=True)
class PositionTarget:
    """Ask for a position in a symbol that is worth so many percent of the equity; below 0 a short one.

    It replaces what is left of the symbol's target before.
    """

    symbol: str
    percent: Number


@dataclass(frozen=True, slots=True)
class OrderRequest:
    """Ask for an order.

    Attributes:
        quantity: how many shares.
        price: the limit, or the stop; None for a market order.
        tif: how long it stays: until it is filled, the day's end, or at once or not at all.
        name: what other orders may call it as their `parent`; of several the newest has it.
        parent: the name of the order with whose fill this one begins to live.
        oco: the name of a group of orders, of which the first fill ends the others.
    """

    symbol: str
    side: Literal["buy", "sell"]
    quantity: Number
    type: Literal["market", "limit", "stop"] = "market"
    price: Number | None = None
    tif: Literal["GTC", "DAY", "IOC"] = "GTC"
    name: str | None = None
    parent: str | None = None
    oco: str | None = None


Decide = Callable[["StrategyView"], Any]
"""Returns a mapping of symbols to percent, an iterable of PositionTarget and OrderRequest, or None."""


@dataclass(frozen=True, slots=True)
class StrategyForm:
    """Hold what a request must know of a strategy, without its code.

    Attributes:
        title: the first sentence of its file's docstring.
        code: the SHA-256 of its file.
    """

    name: str
    title: str
    parameters: Mapping[str, Parameter]
    code: str

    def complete(self, given: Mapping[str, ParameterValue]) -> dict[str, ParameterValue]:
        """Return the value of each parameter, by name: the given one, or its default; decimals for floats.

        Raises StrategyError for an unknown parameter, or a value of another type or out of bounds.
        """
        for name in given:
            if name not in self.parameters:
                known = ", ".join(self.parameters) or "it has none"
                raise StrategyError(f"{self.name}: no parameter {name[:64]!r}; there are: {known}")
        return {
            name: _read_value(f"{self.name}: {name}", each, given.get(name, each.default))
            for name, each in sorted(self.parameters.items())
        }


@dataclass(frozen=True, slots=True)
class Strategy(StrategyForm):
    """Hold a strategy that can be run, and the file that it was loaded from."""

    decide: Decide
    file: Path

    def make_form(self) -> StrategyForm:
        return StrategyForm(self.name, self.title, self.parameters, self.code)

    def explain(self, error: BaseException) -> str:
        """Return what a strategy raised, with the line of its file from which it came."""
        return _explain(self.file, error)


def list_installed() -> list[str]:
    """Return the names of the strategies that are shipped."""
    return sorted(file.stem for file in INSTALLED.glob("*.py") if _NAME.fullmatch(file.stem))


def load_installed(name: str) -> Strategy:
    """Return a strategy that is shipped. Raises StrategyError, which lists them, for another name."""
    if name not in list_installed():
        raise StrategyError(f"no strategy {name[:64]!r}; there are: {', '.join(list_installed())}")
    return load_file(INSTALLED / f"{name}.py")


def load_file(file: Path) -> Strategy:
    """Run the file of a strategy and return what it defines. Raises StrategyError.

    Whatever the file does when it runs is done with the rights of this process.
    """
    source = _read_source(file)
    if _NAME.fullmatch(file.stem) is None:
        raise StrategyError(f"{file}: its name must be of small letters, digits and _, such as my_idea.py")
    names: dict[str, Any] = {"__name__": f"strategy_{file.stem}", "__file__": str(file)}
    code = _compile(file, source)
    try:
        exec(code, names)  # noqa: S102 - a strategy is a program: the user's own, or one that is shipped
    except (Exception, SystemExit) as error:  # noqa: BLE001 - it may raise anything
        raise StrategyError(_explain(file, error)) from None
    decide, parameters = names.get("decide"), names.get("PARAMETERS", {})
    if not callable(decide):
        raise StrategyError(f"{file}: has no function decide(view)")
    title = str(names.get("__doc__") or file.stem).strip().split("\n\n")[0].replace("\n", " ")
    digest = hashlib.sha256(source).hexdigest()
    return Strategy(file.stem, title[:200], _check_parameters(file, parameters), digest, decide, file)


def _read_source(file: Path) -> bytes:
    try:
        with file.open("rb") as opened:
            source = opened.read(MAX_SOURCE_BYTES + 1)
    except OSError as error:
        raise StrategyError(f"{file}: {error.strerror}") from None
    if len(source) > MAX_SOURCE_BYTES:
        raise StrategyError(f"{file}: is larger than {MAX_SOURCE_BYTES:,} bytes")
    return source


def _compile(file: Path, source: bytes) -> CodeType:
    try:
        return compile(source, str(file), "exec")
    except SyntaxError as error:
        raise StrategyError(f"{file}: line {error.lineno or 1}: {error.msg}") from None
    except (ValueError, RecursionError, MemoryError) as error:  # a null byte; nested too deeply
        raise StrategyError(f"{file}: line 1: {error or type(error).__name__}") from None


def _check_parameters(file: Path, found: Any) -> Mapping[str, Parameter]:
    where = f"{file}: PARAMETERS"
    if not isinstance(found, Mapping) or len(found) > MAX_PARAMETERS:
        raise StrategyError(f"{where}: must be a dict of at most {MAX_PARAMETERS} parameters")
    for name, each in found.items():
        if not isinstance(name, str) or _NAME.fullmatch(name) is None or not isinstance(each, Parameter):
            raise StrategyError(f"{where}: {str(name)[:64]!r}: must be a name and a Parameter(default)")
        _read_value(f"{where}: {name}", each, each.default)
    return dict(found)


def _read_value(where: str, parameter: Parameter, value: ParameterValue | float) -> ParameterValue:
    """Return a value in the type of its parameter's default. Raises StrategyError."""
    if isinstance(parameter.default, bool):
        if value in (True, False, "true", "false"):
            return value in (True, "true")
        raise StrategyError(f"{where}: must be true or false")
    if isinstance(parameter.default, str):
        if not isinstance(value, str) or (parameter.choices and value not in parameter.choices):
            raise StrategyError(f"{where}: must be {' or '.join(parameter.choices) or 'a text'}")
        return value
    number = read_number(value)
    if number is None or (isinstance(parameter.default, int) and number != int(number)):
        raise StrategyError(f"{where}: must be a {'whole ' if parameter.kind == 'int' else ''}number")
    least, most = parameter.least, parameter.most
    if (least is not None and number < Decimal(repr(least))) or (
        most is not None and number > Decimal(repr(most))
    ):
        raise StrategyError(f"{where}: must be from {least} to {most}")
    return int(number) if isinstance(parameter.default, int) else number


def read_number(value: Any) -> Decimal | None:
    """Return a number as the decimal that it is written as; None for what is none, as NaN and True are."""
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal | str):
        value = getattr(value, "item", lambda: None)()  # a scalar of numpy
        if isinstance(value, bool) or not isinstance(value, int | float):
            return None
    try:
        number = Decimal(repr(float(value)) if isinstance(value, float) else value)
    except InvalidOperation:
        return None
    return number if number.is_finite() and abs(number) < 10**15 else None


def _explain(file: Path, error: BaseException) -> str:
    frames = [each for each in traceback.extract_tb(error.__traceback__) if each.filename == str(file)]
    line = f"line {frames[-1].lineno}: " if frames else ""
    text = " ".join(str(error).split())[:300]
    return f"{file}: {line}{type(error).__name__}{': ' if text else ''}{text}"
