"""What the programs of sources say if a library is not installed."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from services.sources.libraries import LIBRARIES

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("program", ["services.sources", "services.sources.gate"])
def test_a_program_without_one_of_its_libraries_says_in_a_sentence_what_to_install(
    tmp_path, program, library
):
    hide = f"import sys\nsys.modules[{library!r}] = None\n"
    (tmp_path / "sitecustomize.py").write_text(hide, encoding="utf-8")
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)])}
    ended = subprocess.run(
        [sys.executable, "-m", program],
        cwd=tmp_path,
        env=environ,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 2, ended.stderr
    assert f"loading the market needs {library}: `make market`" in ended.stderr
    assert "Traceback" not in ended.stderr
