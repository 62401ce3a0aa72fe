"""Runs lines of docs/systemd.md: what they write for two servers and for the database's roles."""

import os
import re
import shlex
import subprocess
from pathlib import Path

import pytest

from marketswarm.agent.service_config import find_model
from support.pages import get_command, shown
from support.rig import Server
from support.rig.process import server_binary

PAGE = "docs/systemd.md"
DEBIAN = """\
bind 127.0.0.1 -::1
port 6379
daemonize yes
pidfile /run/redis/redis-server.pid
logfile /var/log/redis/redis-server.log
dbfilename dump.rdb
dir /var/lib/redis
appendonly no
appendfilename "appendonly.aof"
appenddirname "appendonlydir"
"""
"""The settings of Debian's redis.conf that name a port, a file or a folder, as it has them."""
SUDO = """\
#!/bin/sh
[ "$1" != -u ] || shift 2
exec "$@"
"""
PSQL = """\
#!/bin/sh
cat >>"$TOLD"
"""


def run(script: str, folder: Path, **environ: str) -> str:
    """Run lines of the page in bash, with a `sudo` and a `psql` that do nothing to this machine."""
    programs = folder / "bin"
    programs.mkdir(parents=True, exist_ok=True)
    for name, text in {"sudo": SUDO, "psql": PSQL}.items():
        (programs / name).write_text(text, encoding="utf-8")
        (programs / name).chmod(0o755)
    path = f"{programs}:{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        env={**os.environ, **environ, "PATH": path},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def make_configurations(folder: Path) -> tuple[Path, Path]:
    """Write both servers' configurations: Debian's, and what the page's sed makes of it."""
    system, market = folder / "redis.conf", folder / "redis-market.conf"
    system.write_text(DEBIAN, encoding="utf-8")
    sed = get_command(PAGE, "Install", "sudo sed").partition(" | sudo install")[0]
    made = run(sed.replace("/etc/redis/redis.conf", shlex.quote(str(system))), folder)
    market.write_text(made, encoding="utf-8")
    return system, market


def read_settings(path: Path) -> dict[str, str]:
    lines = path.read_text(encoding="utf-8").splitlines()
    return {name: value.strip('"') for name, _, value in (line.partition(" ") for line in lines)}


def test_two_servers_of_the_page_share_a_folder_and_no_name_in_it(tmp_path):
    system, market = map(read_settings, make_configurations(tmp_path))
    assert system["dir"] == market["dir"]
    for name in ("port", "dbfilename", "appenddirname", "logfile", "pidfile"):
        assert system[name] != market[name], name


class Configured(Server):
    """A server that reads a configuration, as the distribution's unit starts it."""

    def __init__(self, folder: Path, configuration: Path) -> None:
        super().__init__(folder, start=False)
        self.configuration = configuration
        text = configuration.read_text(encoding="utf-8")
        for name, value in {"port": self.port, "dir": folder, "logfile": folder / "server.log"}.items():
            text = re.sub(rf"(?m)^{name} .*", f"{name} {value}", text)
        configuration.write_text(re.sub(r"(?m)^pidfile .*\n", "", text), encoding="utf-8")
        self.start()

    def begin(self, **_: str) -> None:
        self.spawn([str(server_binary()), str(self.configuration), "--daemonize", "no"], env={**os.environ})


@pytest.mark.live
@pytest.mark.needs("redis-cli")
def test_servers_that_are_given_an_append_only_file_keep_what_they_have_each_its_own(tmp_path):
    data = tmp_path / "data"
    files = make_configurations(tmp_path)
    with Configured(data, files[0]) as system, Configured(data, files[1]) as market:
        for server in (system, market):
            server.cmd("SET", "before", server.port)
        lines = shown(PAGE, "An append-only file for each server")
        lines = lines.replace("6379 6380", f"{system.port} {market.port}").replace(
            "/etc/redis", str(tmp_path)
        )
        assert run(lines, tmp_path).count("aof_last_bgrewrite_status:ok") == 2
        for server in (system, market):
            server.cmd("SET", "after", server.port)
        for server in (system, market):
            server.restart()
            assert server.cmd("CONFIG", "GET", "appendonly") == {"appendonly": "yes"}
            assert server.cmd("MGET", "before", "after") == [str(server.port)] * 2


def test_every_role_of_the_page_has_a_password_that_its_service_reads_under_its_own_variable(tmp_path):
    market = shown(PAGE, "The market station")
    loop = market[market.index("for user in") : market.index("done\n") + len("done\n")]
    run(loop.replace("/etc/", f"{tmp_path}/etc/"), tmp_path, TOLD=str(tmp_path / "told.sql"))
    told = (tmp_path / "told.sql").read_text(encoding="utf-8")
    passwords = dict(re.findall(r"ALTER ROLE (\w+) PASSWORD '([0-9a-f]{64})'", told))
    assert set(passwords) == set(re.findall(r"createuser (?:--createdb )?(\w+)", market))
    given = {}
    for drop_in in sorted(tmp_path.glob("etc/systemd/system/*/database.conf")):
        svc = drop_in.parent.name.removeprefix("marketswarm@").removesuffix(".service.d")
        text = drop_in.read_text(encoding="utf-8").replace(str(tmp_path), "")
        [secret] = re.findall(r"(?m)^LoadCredential=database:/etc/marketswarm/secrets/(\S+)$", text)
        [variable] = re.findall(r"(?m)^Environment=(\w+)_FILE=%d/database$", text)
        model = find_model(svc)
        assert model is not None
        assert variable in model.variables
        file = tmp_path / "etc/marketswarm/secrets" / secret
        assert file.stat().st_mode & 0o777 == 0o600
        given[svc] = file.read_text(encoding="utf-8").strip()
    roles = {"archive": "marketswarm", "board": "marketswarm_reader", "signals": "marketswarm_signals"}
    assert given == {
        svc: f"postgresql://{role}:{passwords[role]}@127.0.0.1:5432/marketswarm"
        for svc, role in roles.items()
    }
