"""Break the product on purpose, and see the tests of every run notice: `make breaks`.

Each mistake of breaks.toml is made in a copy of the checkout, in which its tests then run. The exit code is 1
if a mistake passes them. `--code DIR` breaks the product of another checkout, tested by the tests of that.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).parents[1]
NOT_COPIED = shutil.ignore_patterns(".git", ".venv", ".*_cache", ".hypothesis", ".marketswarm", "__pycache__")
FAILED_TEST = re.compile(r"^FAILED (\S+)", re.MULTILINE)
TESTS_FAILED = 1
"""pytest's exit code if tests failed; others say that it found none, or could not begin."""
LONGEST_SEC = 600


def run_tests(mistake: dict[str, str], code: Path) -> tuple[dict[str, str], str | None, str]:
    """Return the mistake, the first test that failed by it, or None, and what the tests printed."""
    with tempfile.TemporaryDirectory(prefix="marketswarm-break-") as folder:
        copy = Path(folder) / "main"
        shutil.copytree(code, copy, ignore=NOT_COPIED)
        file = copy / mistake["file"]
        text = file.read_text(encoding="utf-8")
        if text.count(mistake["old"]) != 1:
            return mistake, None, f"{mistake['file']} does not have exactly once: {mistake['old']}"
        file.write_text(text.replace(mistake["old"], mistake["new"]), encoding="utf-8")
        environ = {name: value for name, value in os.environ.items() if name != "PYTEST_ADDOPTS"}
        environ |= {"PYTHONPATH": str(copy), "HYPOTHESIS_PROFILE": "brief"}
        words = ("-q", "-x", "-n", "0", "-p", "no:cacheprovider", mistake["tests"])
        ended = subprocess.run(
            [sys.executable, "-m", "pytest", *words],
            cwd=copy,
            env=environ,
            capture_output=True,
            text=True,
            timeout=LONGEST_SEC,
            check=False,
        )
    found = FAILED_TEST.findall(ended.stdout) if ended.returncode == TESTS_FAILED else []
    return mistake, found[-1] if found else None, ended.stdout + ended.stderr


def main() -> int:
    """Make the mistakes two at a time on two processors; return 1 if no test noticed one."""
    parser = argparse.ArgumentParser(prog="make breaks", description=__doc__)
    parser.add_argument("--only", default="", help="the mistakes of this part, for example: board")
    parser.add_argument("--code", type=Path, default=ROOT, help="break this checkout in place of our own")
    asked = parser.parse_args()
    mistakes = tomllib.loads(Path(__file__).with_name("breaks.toml").read_text(encoding="utf-8"))["break"]
    mistakes = [mistake for mistake in mistakes if asked.only in ("", mistake["part"])]
    passed = 0
    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        for mistake, test, said in pool.map(lambda each: run_tests(each, asked.code.resolve()), mistakes):
            passed += test is None
            print(
                f"{mistake['part']:9} {mistake['what']}\n          {test or 'PASSED: no test failed'}",
                flush=True,
            )
            if test is None:
                print(said[-2000:])
    print(f"{len(mistakes) - passed} of {len(mistakes)} mistakes were found")
    return int(bool(passed) or not mistakes)


if __name__ == "__main__":
    sys.exit(main())
