"""Implement `marketswarm signals consensus`."""

from operator import itemgetter
from pathlib import Path
from typing import Annotated

from marketswarm.cli import output
from marketswarm.cli.options import Json, argument
from marketswarm.cli.tables import show
from marketswarm.exit import Mistake
from services.signals.consensus.votes_file import MAX_BYTES, VotesError, describe_consensus, parse_votes


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
    show(votes, {name: itemgetter(name) for name in ("voter", "weight")}, empty="no voter")
    output.print_line("")
    for name in ("outcome", "score", "conflict", "participation", "effective_votes"):
        output.print_line(f"{name.replace('_', ' '):15} {answer[name] or 'unknown'}")
