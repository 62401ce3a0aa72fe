"""`python -m services.medic`."""

from marketswarm.agent import run
from services.medic.loop import main

run(main)
