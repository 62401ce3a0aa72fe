"""`python -m services.vexy_ai`."""

from marketswarm.agent import run
from services.vexy_ai.loop import main

run(main)
