"""Implement `marketswarm backtest orders` and `marketswarm signals consensus`."""

from pathlib import Path
from typing import Annotated, Any

from marketswarm.cli import output
from marketswarm.cli.options import Json, argument, option
from marketswarm.cli.tables import show
from marketswarm.exit import Mistake
from services.signals.backtest import describe_result, play_case
from services.signals.cases import CaseError, read_case
from services.signals.votes_file import MAX_BYTES, VotesError, describe_consensus, parse_votes


def orders(
    folder: Annotated[Path, argument("FOLDER", "The folder with case.json, bars.csv and orders.csv.")],
    *,
    variant: Annotated[
        str | None, option("--variant", "NAME", "Play it with the account of this variant.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Fill orders by bars, and show the fills, what was refused and the account.

    It needs no fleet. docs/services/engine.md has the form of the files and each rule by which orders fill.
    """
    try:
        case = read_case(folder, variant)
    except CaseError as error:
        raise Mistake(str(error)) from None
    periods = case.account.periods_per_year
    answer = describe_result(play_case(case), None if periods is None else float(periods))
    if as_json:
        output.print_json(answer)
        return
    columns = ("at", "order", "symbol", "side", "qty", "price", "fee")
    show(answer["fills"], {name: _cell(name) for name in columns}, empty="no order was filled")
    if answer["refused"]:
        output.print_line("")
        show(answer["refused"], {name: _cell(name) for name in ("at", "order", "reason")})
    output.print_line("")
    for name, value in answer["totals"].items():
        shown = f"{value:.4f}" if isinstance(value, float) else "unknown" if value is None else value
        output.print_line(f"{name.replace('_', ' '):15} {shown}")


def consensus(
    path: Annotated[Path, argument("FILE", "JSON with weights and votes: docs/services/consensus.md.")],
    *,
    as_json: Json = False,
) -> None:
    """Weigh the votes of a file, and show each step to a side.

    It needs no fleet, and computes as the service does: in whole numbers, with 12 places. Numbers of the file
    are taken exactly as they are written.
    """
    try:
        with path.open("rb") as file:
            answer = describe_consensus(parse_votes(file.read(MAX_BYTES + 1)))
    except OSError as error:
        raise Mistake(f"{path}: {error.strerror}") from None
    except VotesError as error:
        raise Mistake(f"{path}: {error}") from None
    if as_json:
        output.print_json(answer)
        return
    votes = [{"voter": name, "weight": weight} for name, weight in answer["weights_used"].items()]
    votes += [{"voter": name, "weight": f"abstains: {why}"} for name, why in answer["abstained"].items()]
    show(votes, {name: _cell(name) for name in ("voter", "weight")}, empty="no voter")
    output.print_line("")
    for name in ("outcome", "score", "conflict", "participation", "effective_votes"):
        output.print_line(f"{name.replace('_', ' '):15} {answer[name] or 'unknown'}")


def _cell(name: str) -> Any:
    return lambda row: row[name]
