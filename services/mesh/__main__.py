"""`python -m services.mesh`."""

from marketswarm.agent import run
from services.mesh.loop import main

run(main)
