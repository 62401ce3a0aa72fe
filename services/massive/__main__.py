"""`python -m services.massive`."""

from marketswarm.agent import run
from services.massive.loop import main

run(main)
