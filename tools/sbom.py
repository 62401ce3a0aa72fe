"""Write dist/marketswarm.cdx.json, a CycloneDX bill of the product's packages; run it with `make sbom`.

It is made from requirements.lock, with its hashes. Packages that only development and tests need are left
out: a package is listed if the project or a listed package asks for it, by the lock's own `# via` lines.
"""

import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

OUT = Path("dist/marketswarm.cdx.json")
_PROJECT = "marketswarm (pyproject.toml)"
_DEVELOPERS = "marketswarm (pyproject.toml:"
_ENTRY = re.compile(r"^([A-Za-z0-9][\w.-]*)(?:\[[^\]]*\])?==", re.MULTILINE)


def select_product_entries(lock: str) -> str:
    """Return the entries of a lock that the product needs. Pure.

    Raises ValueError if an entry has no `# via` lines.
    """
    starts = [match.start() for match in _ENTRY.finditer(lock)]
    entries = {}
    for start, end in zip(starts, [*starts[1:], len(lock)], strict=True):
        text = lock[start:end]
        _, via, askers = text.partition("# via")
        if not via:
            raise ValueError(f"{text.splitlines()[0]}: nobody asks for it")
        names = [line.strip(" #") for line in askers.splitlines()]
        match = _ENTRY.match(text)
        assert match is not None  # it begins there
        entries[match[1]] = (text, {name for name in names if name and not name.startswith(_DEVELOPERS)})
    wanted = {_PROJECT}
    while new := {name for name, (_, askers) in entries.items() if name not in wanted and askers & wanted}:
        wanted |= new
    return "".join(text for name, (text, _) in entries.items() if name in wanted)


def main() -> int:
    """Return the exit code of cyclonedx-py."""
    needed = select_product_entries(Path("requirements.lock").read_text(encoding="utf-8"))
    OUT.parent.mkdir(exist_ok=True)
    with tempfile.NamedTemporaryFile("w", suffix=".txt", encoding="utf-8") as file:
        file.write(needed)
        file.flush()
        how = ["--pyproject", "pyproject.toml", "--mc-type", "application", "--output-reproducible"]
        to = ["--output-format", "JSON", "--output-file", str(OUT)]
        quiet = [sys.executable, "-W", "ignore"]  # it wants a graph of what asks for what
        line = [*quiet, "-m", "cyclonedx_py", "requirements", *how, *to, file.name]
        code = subprocess.run(line, check=False).returncode
    if not code:
        _add_version()
        print(f"{OUT}: {len(_ENTRY.findall(needed))} packages")
    return code


def _add_version() -> None:
    """Add the version from the package, because cyclonedx-py does not read it."""
    bill = json.loads(OUT.read_text(encoding="utf-8"))
    package = Path("marketswarm/__init__.py").read_text(encoding="utf-8")
    bill["metadata"]["component"]["version"] = re.findall(r'^__version__ = "(.+)"', package, re.MULTILINE)[0]
    OUT.write_text(json.dumps(bill, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
