"""Run `python -m marketswarm`, which is the same as the command `marketswarm`."""

from marketswarm.cli import main

if __name__ == "__main__":
    main()
