"""What `marketswarm join` makes of its words, before and without any fleet. Two machines: tests/servers."""

import os
import ssl
import subprocess
import sys
from pathlib import Path

import pytest

from marketswarm.cli import join as command
from marketswarm.cli.join import is_process_alive
from support.rig.shell import Shell
from support.waiting import until

FINGERPRINT = "0" * 64


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("redis://join@192.0.2.10:6379", "has no TLS"),
        ("rediss://join:pass#word@192.0.2.10:6379", "percent-encode"),
        ("rediss://join@192.0.2.10:6379/3", "not one of another machine"),
        ("rediss://join@192.0.2.10:6379?ssl_cert_reqs=none", "not one of another machine"),
        ("https://192.0.2.10", "the URL is not redis://"),
        ("unix:///run/redis.sock", "not one of another machine"),
    ],
)
def test_a_url_that_is_not_safe_is_refused_before_anything_is_asked(tmp_path, monkeypatch, url, why):
    monkeypatch.setattr(command, "fetch_certificate", lambda *_args, **_more: pytest.fail("it was asked"))
    with pytest.raises(command.Exit, match=why) as ended:
        command.join([url, "backup"], fingerprint=FINGERPRINT, data=tmp_path)
    assert ended.value.code == 2
    assert "pass#" not in ended.value.message


def test_without_a_fingerprint_an_authority_has_to_vouch_for_it(tmp_path, monkeypatch):
    asked = []

    def fetch(host, port, within_sec, *, verified):
        asked.append((host, port, verified))
        error = ssl.SSLCertVerificationError(1, "refused")
        error.verify_message = "self-signed certificate"
        raise error

    monkeypatch.setattr(command, "fetch_certificate", fetch)
    with pytest.raises(command.Exit, match="no authority that this machine knows"):
        command.join(["rediss://join@192.0.2.10"], data=tmp_path)
    assert asked == [("192.0.2.10", 6379, True)]


def test_with_another_certificate_nothing_is_sent_and_nothing_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(command, "fetch_certificate", lambda *_args, **_more: b"another one")
    monkeypatch.setattr(command, "create_bus", lambda *_args: pytest.fail("a connection was made"))
    with pytest.raises(command.Exit, match="nothing was sent to it"):
        command.join(["rediss://join:secret@192.0.2.10"], fingerprint=FINGERPRINT, data=tmp_path / "data")
    assert not (tmp_path / "data").exists()


def test_who_has_joined_nothing_is_told_where_the_line_comes_from(tmp_path):
    shell = Shell(tmp_path)
    done = shell("join", "backup")
    assert done.returncode == 2
    assert "joined no fleet in .marketswarm" in done.stderr
    assert "--fingerprint belongs to a URL" in shell("join", "backup", "--fingerprint", FINGERPRINT).stderr
    assert "64 hexadecimal digits" in shell("join", "rediss://h", "--fingerprint", "abc").stderr
    assert "'a b' is not a name" in shell("join", "a b").stderr


@pytest.mark.parametrize("text", ["", "nginx", "0", "-1", "9" * 31, "4 2"])
def test_a_file_without_the_id_of_a_process_is_no_sign_of_life(tmp_path, text):
    file = tmp_path / "nginx.pid"
    assert not is_process_alive(file)
    file.write_text(text, encoding="ascii")
    assert not is_process_alive(file)


def test_a_pipe_in_place_of_the_file_holds_nobody_up(tmp_path):
    os.mkfifo(tmp_path / "nginx.pid")
    assert not is_process_alive(tmp_path / "nginx.pid")
    assert not is_process_alive(tmp_path)


def test_a_process_that_runs_is_a_sign_of_life(tmp_path):
    file = tmp_path / "own.pid"
    file.write_text(f"{os.getpid()}\n", encoding="ascii")
    assert is_process_alive(file)
    file.write_text("1\n", encoding="ascii")  # that of root
    assert is_process_alive(file)


def test_a_process_that_ended_and_that_nobody_waits_for_is_no_sign_of_life(tmp_path):
    """As below a container's first process that is no init: the zombie may stand for days."""
    file = tmp_path / "nginx.pid"
    ended = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    file.write_text(f"{ended.pid}\n", encoding="ascii")
    assert is_process_alive(file)
    ended.stdin.close()
    os.waitid(os.P_PID, ended.pid, os.WEXITED | os.WNOWAIT)
    assert not is_process_alive(file)
    ended.wait()
    assert not is_process_alive(file)


FIRST_THREAD_ENDS = """
import ctypes, threading
threading.Thread(target=input).start()
print(flush=True)
ctypes.CDLL(None).pthread_exit(None)
"""


def test_a_process_of_which_the_first_thread_alone_ended_is_alive(tmp_path):
    """The kernel calls it a zombie; pthread_exit(3) names this as a way to let the others work on."""
    file = tmp_path / "worker.pid"
    line = [sys.executable, "-c", FIRST_THREAD_ENDS]
    with subprocess.Popen(line, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as running:
        file.write_text(f"{running.pid}\n", encoding="ascii")
        running.stdout.readline()
        until(lambda: ") Z " in Path(f"/proc/{running.pid}/stat").read_text(encoding="ascii"))
        assert is_process_alive(file)
        running.kill()
