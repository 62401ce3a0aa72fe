"""A program that was started with its standard streams closed."""

import subprocess
import sys

import pytest

SCRIPT = """
import os, socket, sys
from marketswarm.standard_streams import open_closed_streams
open_closed_streams()
print("to stdout", flush=True)
print("to stderr", file=sys.stderr, flush=True)
with socket.socket() as opened:
    assert opened.fileno() > 2, opened.fileno()
assert all(os.get_inheritable(number) for number in range(3))
assert sys.stdin.read() == ""
assert not sys.stdout.isatty()
sys.exit(7)
"""


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_each_closed_stream_is_opened_and_an_open_one_stays_what_it_was(closed):
    line = ["sh", "-c", f'exec {closed}; exec "$@"', "sh", sys.executable, "-c", SCRIPT]
    ended = subprocess.run(
        line, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False
    )
    assert ended.returncode == 7, ended.stderr
    assert ended.stdout == ("" if ">&-" in closed.split() else "to stdout\n")
    assert ended.stderr == ("" if "2>&-" in closed else "to stderr\n")
