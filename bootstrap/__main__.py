"""`python -m bootstrap`."""

from bootstrap.seed import main
from marketswarm.agent import run

run(main)
