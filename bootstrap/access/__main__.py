"""`python -m bootstrap.access`."""

from bootstrap.access.admit import main
from marketswarm.agent import run

run(main)
