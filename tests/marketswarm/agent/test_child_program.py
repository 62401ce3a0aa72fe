"""Programs that are run to their end: real processes."""

import os
import sys

import pytest

from marketswarm.agent.child_program import inherit_environ, run_to_end

pytestmark = pytest.mark.live


async def test_what_a_program_wrote_and_its_exit_code_are_returned_and_no_secret_is_passed_on(monkeypatch):
    monkeypatch.setenv("SYSTEM_REDIS_PASSWORD", "hush")
    code = "import os, sys; print('out'); print(sorted(os.environ), file=sys.stderr); sys.exit(7)"
    ended_with, output, errors = await run_to_end([sys.executable, "-c", code], inherit_environ(), 30)
    assert (ended_with, output) == (7, b"out\n")
    assert b"PATH" in errors
    assert b"PASSWORD" not in errors


async def test_one_that_takes_too_long_is_killed(tmp_path):
    place = tmp_path / "pid"
    with pytest.raises(TimeoutError):
        await run_to_end(["/bin/sh", "-c", f"echo $$ > {place}; exec sleep 60"], inherit_environ(), 3)
    with pytest.raises(ProcessLookupError):
        os.kill(int(place.read_text()), 0)
