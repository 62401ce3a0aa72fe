"""`python -m services.sources.gate`: load every series once, and let the readers start if enough came."""

from marketswarm.agent import run
from services.sources.libraries import require_libraries


async def main() -> int:
    """Pass the gate; return its exit code. Raise Exit, code 2, if a library is not installed."""
    require_libraries()
    from services.sources import preload  # noqa: PLC0415 - its modules import the libraries

    return await preload.main()


if __name__ == "__main__":
    run(main)
