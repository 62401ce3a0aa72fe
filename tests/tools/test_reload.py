"""tools/reload.sh: a program ends when its code is written, and with its own code when it ends by itself."""

import signal
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "tools/reload.sh"
# it says that it has begun, and what ended it
PROGRAM = 'trap "echo ended; exit 7" TERM; echo begun; while :; do sleep 0.1; done'


def start(folder: Path, program: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        ["sh", str(SCRIPT), str(folder), "sh", "-c", program], stdout=subprocess.PIPE, text=True
    )


@pytest.mark.parametrize("by_edit", [True, False], ids=["an edit", "a stop"])
def test_a_program_ends_when_its_code_is_written_or_it_is_stopped(tmp_path: Path, by_edit: bool):
    (tmp_path / "old.py").write_text("1")
    with start(tmp_path, PROGRAM) as script:
        assert script.stdout is not None
        try:
            assert script.stdout.readline() == "begun\n"
            if by_edit:
                (tmp_path / "old.py").write_text("2")
            else:
                script.send_signal(signal.SIGTERM)
            assert script.wait(timeout=30) == 7
            assert script.stdout.read() == "ended\n"
        finally:
            script.terminate()


def test_a_program_that_ends_by_itself_gives_its_code(tmp_path: Path):
    (tmp_path / "__pycache__").mkdir()
    with start(tmp_path, "exit 3") as script:
        assert script.wait(timeout=30) == 3
