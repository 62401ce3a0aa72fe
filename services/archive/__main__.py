"""`python -m services.archive`."""

from marketswarm.agent import run
from services.archive.loop import main

run(main)
