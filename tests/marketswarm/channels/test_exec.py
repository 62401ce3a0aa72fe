"""A command: what it reads and inherits, what its exit code comes to, and that it keeps nobody waiting."""

import asyncio
import errno
import os
import signal
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from pydantic import ValidationError

from marketswarm.channels import exec as exec_channel
from marketswarm.channels.channel import SendError
from marketswarm.channels.exec import Exec, Options, make_environment
from marketswarm.channels.message import encode_webhook_body
from support.channel_kinds import refused_for
from support.channel_messages import GROUP, HOSTILE, MISS, hostile
from support.rig.process import alive
from support.waiting import PATIENT_SEC, auntil

pytestmark = pytest.mark.live


def script(tmp_path: Path, source: str, *, mode: int = 0o755, shebang: str = "#!/bin/sh\n") -> str:
    path = tmp_path / "tell"
    path.write_text(shebang + source)
    path.chmod(mode)
    return str(path)


def channel(line: str, within_sec: float = 20.0) -> Exec:
    return Exec("exec", Options(command=line, within_sec=within_sec))


async def refused(line: str, within_sec: float = 20.0) -> tuple[str, bool]:
    return await refused_for(channel(line, within_sec))


async def test_a_command_reads_the_webhooks_json(tmp_path):
    found = tmp_path / "found"
    receipt = await channel(script(tmp_path, f"cat >{found}\n")).send(GROUP)
    assert receipt.answer == "exit 0"
    assert found.read_bytes() == encode_webhook_body(GROUP)


async def test_it_may_open_its_input_by_name_and_write_where_it_likes(tmp_path):
    found = tmp_path / "found"
    line = script(tmp_path, f"echo out; echo err >/dev/stderr; cat /dev/stdin >{found}\n")
    await channel(line).send(MISS)
    assert found.read_bytes() == encode_webhook_body(MISS)


async def test_a_message_of_any_length_is_read_to_its_end(tmp_path):
    found = tmp_path / "found"
    huge = replace(GROUP, text="x" * 3_000_000)
    await channel(script(tmp_path, f"wc -c >{found}\n")).send(huge)
    assert int(found.read_text()) == len(encode_webhook_body(huge))


def list_open_files() -> set[str]:
    return {each.name for each in Path("/proc/self/fd").iterdir()}


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="the list of open files is Linux'")
@pytest.mark.parametrize(
    "fails", ["second pipe", "connect_read_pipe", "connect_write_pipe", "no such command"]
)
async def test_an_attempt_that_fails_before_the_command_runs_leaves_no_file_open(
    monkeypatch, tmp_path, fails
):
    line = script(tmp_path, "cat >/dev/null\n")
    await channel(line).send(MISS)  # what asyncio opens for good
    before = list_open_files()
    pipe, pipes, loop = os.pipe, list[int](), asyncio.get_running_loop()

    def open_one() -> tuple[int, int]:
        if pipes:
            raise OSError(errno.EMFILE, "Too many open files")
        pipes.extend(pipe())
        return pipes[0], pipes[1]

    async def time_out(*_):
        raise asyncio.CancelledError

    with monkeypatch.context() as patch:
        if fails == "second pipe":
            patch.setattr(os, "pipe", open_one)
        elif fails == "no such command":
            line = "/nonexistent/command"
        else:
            patch.setattr(loop, fails, time_out)
        with pytest.raises((SendError, asyncio.CancelledError)):
            await channel(line).send(MISS)
    await auntil(lambda: list_open_files() == before)


async def test_no_shell_sees_its_arguments(tmp_path):
    found = tmp_path / "found"
    line = script(tmp_path, f'printf "%s|" "$@" >{found}\n')
    await channel(f"{line} 'a b' '$HOME' ';' '`id`' '*'").send(MISS)
    assert found.read_text() == "a b|$HOME|;|`id`|*|"
    await Exec("exec", Options(command=[line, "$HOME"])).send(MISS)
    assert found.read_text() == "$HOME|"


async def test_what_a_stranger_is_called_stays_in_the_json(tmp_path):
    found = tmp_path / "found"
    message = hostile("".join(HOSTILE))
    await channel(script(tmp_path, f"cat >{found}; env >{found}.env; echo $# >>{found}.env\n")).send(message)
    assert found.read_bytes() == encode_webhook_body(message)
    shown = found.with_suffix(".env").read_text()
    assert "is down" not in shown
    assert shown.endswith("\n0\n")


async def test_it_inherits_what_it_needs_and_no_secret(tmp_path, monkeypatch):
    found = tmp_path / "found"
    monkeypatch.setenv("SMTP_PASSWORD", "hunter2")
    monkeypatch.setenv("WEBHOOK_URL", "http://hunter2")
    monkeypatch.setenv("MARKETSWARM_DATA", "there")
    await channel(script(tmp_path, f"env >{found}\n")).send(MISS)
    shown = dict(line.split("=", 1) for line in found.read_text().splitlines())
    assert shown["MARKETSWARM_DATA"] == "there"
    assert shown["PATH"] == os.environ["PATH"]
    assert set(shown) - {"PATH", "HOME", "LANG", "PWD", "OLDPWD", "SHLVL", "_"} == {
        name for name in os.environ if name.startswith("MARKETSWARM_")
    }
    assert "hunter2" not in found.read_text()


def test_of_the_environment_only_that_is_passed_on():
    ours = {
        "PATH": "a",
        "HOME": "b",
        "LANG": "c",
        "MARKETSWARM_PORT": "1",
        "LD_PRELOAD": "x",
        "AWS_SECRET": "x",
    }
    assert make_environment(ours) == {"PATH": "a", "HOME": "b", "LANG": "c", "MARKETSWARM_PORT": "1"}


async def test_an_exit_code_says_whether_to_try_again(tmp_path):
    for source, found in (
        ("exit 1", ("exit 1", False)),
        ("exit 126", ("exit 126", True)),
        ("exit 127", ("exit 127", True)),
        ("kill -9 $$", ("signal 9", False)),
    ):
        assert await refused(script(tmp_path, source)) == found


async def test_a_command_that_can_not_be_run_is_so_for_good(tmp_path):
    assert await refused("/no/such/command") == ("can not be run: no such file or directory", True)
    assert await refused("no-such-command-anywhere") == ("can not be run: no such file or directory", True)
    assert await refused(script(tmp_path, "", mode=0o644)) == ("can not be run: permission denied", True)
    assert await refused(script(tmp_path, "what", shebang="")) == ("can not be run: exec format error", True)


async def test_it_need_not_read_anything(tmp_path):
    huge = replace(GROUP, text="x" * 1_000_000)
    assert (await channel(script(tmp_path, "exit 0")).send(huge)).answer == "exit 0"


async def test_one_that_takes_too_long_is_ended_with_all_that_it_started(tmp_path):
    pids = tmp_path / "pids"
    line = script(
        tmp_path, f"sleep 600 & echo $! >{pids}.new; echo $$ >>{pids}.new; mv {pids}.new {pids}; wait\n"
    )
    for within_sec in (1.5, 6.0, 20.0):  # a busy machine takes long to start it
        assert await refused(line, within_sec=within_sec) == ("timeout", False)
        if pids.exists():
            break
    of_it = [int(pid) for pid in pids.read_text().split()]
    assert len(of_it) == 2
    await auntil(lambda: not any(map(alive, of_it)), what="its end")


def test_it_grants_an_attempt_the_time_of_its_command_and_some_to_end_it():
    for within_sec in (0.5, 60.0, 300.0):
        assert channel("/bin/tell", within_sec).within_sec == within_sec + exec_channel.OUTPUT_WAIT_SEC


async def test_one_that_is_given_up_is_ended_too(tmp_path):
    pids = tmp_path / "pids"
    line = script(tmp_path, f"echo $$ >{pids}.new; mv {pids}.new {pids}; sleep 60\n")
    sending = asyncio.create_task(channel(line).send(MISS))
    await auntil(pids.exists, what="its start")
    sending.cancel()
    with pytest.raises(asyncio.CancelledError):
        await sending
    await auntil(lambda: not alive(int(pids.read_text())), what="its end")


async def test_one_that_is_given_up_twice_is_waited_for_all_the_same(tmp_path, monkeypatch):
    real, started = asyncio.create_subprocess_exec, []

    async def start(*words, **how):
        started.append(await real(*words, **how))
        return started[-1]

    monkeypatch.setattr(asyncio, "create_subprocess_exec", start)
    sending = asyncio.create_task(channel(script(tmp_path, "sleep 60\n")).send(MISS))
    await auntil(lambda: started, what="its start")
    for _ in range(3):  # as by the end of a test, or of an agent, while another part ends it
        sending.cancel()
        await asyncio.sleep(0)
    with pytest.raises(asyncio.CancelledError):
        await sending
    assert started[0].returncode == -signal.SIGKILL, "else asyncio takes it for one that still runs"


async def test_what_it_leaves_behind_keeps_nobody_waiting(tmp_path):
    pids = tmp_path / "pids"
    huge = replace(GROUP, text="x" * 1_000_000)  # and nobody reads it
    line = script(tmp_path, f"sleep 600 & echo $! >{pids}; exit 0\n")
    try:
        async with asyncio.timeout(PATIENT_SEC):
            assert (await channel(line).send(huge)).answer == "exit 0"
        assert alive(int(pids.read_text()))
        failing = script(tmp_path, f"sleep 600 & echo $! >>{pids}; exit 4\n")
        async with asyncio.timeout(PATIENT_SEC):
            assert await refused(failing) == ("exit 4", False)
    finally:
        for pid in pids.read_text().split():
            os.kill(int(pid), 9)


async def test_of_what_it_writes_a_short_line_is_shown_and_no_more_is_kept(tmp_path, capsys):
    source = """
import sys
for _ in range(3000): print('x' * 1000, flush=True)
print('\\x1b[31mthe reason ' + 'y' * 500, file=sys.stderr)
sys.exit(5)
"""
    line = script(tmp_path, source, shebang=f"#!{sys.executable}\n")
    assert await refused(f"{line} --password hunter2") == ("exit 5", False)
    shown = "".join(capsys.readouterr())
    assert "exec.failed" in shown
    assert "the reason yyy" in shown
    assert "x" * 20 not in shown
    assert "\x1b[31mthe" not in shown
    assert "y" * 300 not in shown
    assert "hunter2" not in shown


def test_no_more_of_the_output_is_kept_than_it_takes():
    output = exec_channel.OutputTail()
    for _ in range(1000):
        output.data_received(b"x" * 1000 + b"\n")
    output.data_received(b"last\n \n")
    assert (output.last(), len(output.kept)) == ("last", exec_channel.OUTPUT_KEPT_BYTES)


def test_options_are_a_command_in_words_and_a_time():
    assert Options(command="/bin/tell 'a b' c").command == ("/bin/tell", "a b", "c")
    assert Options(command=["/bin/tell", "a b"]).command == ("/bin/tell", "a b")
    assert Exec("night", Options(command="/usr/bin/tell --token hunter2")).where == "tell"
    for wrong in ("", "'hunter2", [], [""], ["a\0hunter2"], 7):
        with pytest.raises(ValidationError) as caught:
            Options(command=wrong)
        assert "hunter2" not in str(caught.value)
    for sec in (0, -1, 301, float("nan"), float("inf")):
        with pytest.raises(ValidationError):
            Options(command="a", within_sec=sec)
