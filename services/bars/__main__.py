"""`python -m services.bars`."""

from marketswarm.agent import run
from services.bars.loop import main

run(main)
