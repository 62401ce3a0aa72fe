"""`python -m marketswarm.cli`, where the script is not on PATH."""

from marketswarm.cli import main

main()
