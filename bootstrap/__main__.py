"""Run `python -m bootstrap`: seed the truth into every bus."""

from bootstrap.seed import main
from marketswarm.agent import run

run(main)
