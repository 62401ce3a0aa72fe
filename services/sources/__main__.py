"""`python -m services.sources`."""

from marketswarm.agent import run
from services.sources.loop import main

run(main)
