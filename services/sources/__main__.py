"""`python -m services.sources`."""

from marketswarm.agent import run
from services.sources.libraries import require_libraries


async def main() -> int:
    """Run sources; return its exit code. Raise Exit, code 2, if a library is not installed."""
    require_libraries()
    from services.sources import loop  # noqa: PLC0415 - its modules import the libraries

    return await loop.main()


run(main)
