"""Options that several commands share."""

from pathlib import Path
from typing import Annotated

import typer

Data = Annotated[
    Path,
    typer.Option(
        "--data",
        envvar="MARKETSWARM_DATA",
        metavar="DIR",
        help="Folder with the data of the embedded fleet.",
    ),
]
DATA = Path(".marketswarm")

Json = Annotated[bool, typer.Option("--json", help="For programs: JSON.")]
