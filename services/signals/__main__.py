"""`python -m services.signals`."""

from marketswarm.agent import run
from services.signals.loop import main

run(main)
