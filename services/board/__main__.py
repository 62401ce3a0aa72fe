"""`python -m services.board`."""

from marketswarm.agent import run
from services.board.loop import main

run(main)
