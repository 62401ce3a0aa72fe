"""The units, and medic beside them, under a real systemd with a real polkit and a real dbus-daemon.

systemd-nspawn boots this machine's own files, in memory: nothing that happens there is written to them, or
seen by what runs here.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from support.pages import ROOT

pytestmark = [
    pytest.mark.live,
    pytest.mark.timeout(900),  # it waits for the minute of each step itself
    pytest.mark.needs("systemd-nspawn", "redis-server", "busctl"),
    pytest.mark.nightly(
        "it boots a system; in every run the units are held to systemd-analyze, and medic to a stand-in of "
        "systemd on a real dbus-daemon"
    ),
]
POLKIT = next(
    block.partition("```")[0]
    for block in (ROOT / "docs/systemd.md").read_text(encoding="utf-8").split("```js\n")
    if block.startswith("polkit.addRule")
)
BEATS = {"interval_sec": 1, "timeout_sec": 5}
MEDIC = {"mode": "act", "wait_sec": 1, "start_grace_sec": 5, "stable_sec": 3}
TRUTH = {
    "services": {
        "healer": {"heartbeat": BEATS},
        "mesh": {"heartbeat": BEATS},
        "medic": {"heartbeat": BEATS, "settings": MEDIC},
    }
}
BOOT = """\
rm -rf /etc/systemd/system/*.wants /etc/systemd/system/*.requires
: > /etc/fstab
mkdir -p /etc/systemd/system/marketswarm@medic.service.d /etc/marketswarm /etc/polkit-1/rules.d
cp -r /opt/project/deploy/systemd/. /etc/systemd/system/
cp /opt/given/truth.json /opt/given/marketswarm.env /etc/marketswarm/
cp /opt/given/*.service /opt/given/proof.target /etc/systemd/system/
cp /opt/given/medic.conf /etc/systemd/system/marketswarm@medic.service.d/override.conf
ln -sf /etc/systemd/system/proof.target /etc/systemd/system/default.target
useradd --system --user-group --no-create-home --home-dir / --shell /usr/sbin/nologin marketswarm-medic
exec /lib/systemd/systemd --log-target=null
"""
GIVEN = {
    "proof.target": "[Unit]\nRequires=basic.target dbus.service\nWants=proof.service\nAfter=dbus.service\n",
    "proof.service": (
        "[Unit]\nAfter=dbus.service\n[Service]\nType=oneshot\nEnvironment=HOME=/root\n"
        "EnvironmentFile=/etc/marketswarm/marketswarm.env\n"
        "StandardOutput=append:/opt/told/log\nStandardError=append:/opt/told/log\n"
        "ExecStart=/bin/bash /opt/given/proof.sh\nExecStopPost=/bin/systemctl --no-block exit\n"
    ),
    "bus@.service": "[Service]\nExecStart=/usr/bin/redis-server --port %i --save '' --dir /tmp\n",
    "medic.conf": "[Service]\nUser=marketswarm-medic\nEnvironment=MEDIC_SYSTEMD=system\n",
    "marketswarm.env": "LD_LIBRARY_PATH=/opt/python/lib\nPYTHONPATH=/opt/project\n",
    "rule": POLKIT,
    "truth.json": json.dumps(TRUTH),
}
PROOF = """\
set -x
export SYSTEM_REDIS_URL=redis://127.0.0.1:6379 MARKET_REDIS_URL=redis://127.0.0.1:6380
cd /tmp
swarm() { /opt/marketswarm/bin/python -m marketswarm "$@"; }
pid() { systemctl show -p MainPID --value marketswarm@mesh; }
await() {
  local end=$((SECONDS + 60))
  until eval "$1"; do [ $SECONDS -lt $end ] || { echo "NOT WITHIN A MINUTE: $1"; exit 1; }; sleep 0.1; done
}
has() { swarm incidents --json > /opt/told/now.json; grep -q "$1" /opt/told/now.json; }
refused() {
  setpriv --reuid=marketswarm-medic --regid=marketswarm-medic --clear-groups busctl call \\
    org.freedesktop.systemd1 /org/freedesktop/systemd1 org.freedesktop.systemd1.Manager \\
    "$1" ss "$2" replace 2>&1
}
systemctl start bus@6379 bus@6380
systemctl start marketswarm-bootstrap marketswarm@healer marketswarm@mesh marketswarm@medic
await 'swarm status | grep -q "all 3 up"'
sleep 6  # no start is in its grace
systemctl show -p NRestarts --value marketswarm@medic > /opt/told/medic-restarts
systemctl kill -s STOP marketswarm@mesh
await 'has "refuses: InteractiveAuthorizationRequired"'
before=$(pid)
swarm incidents --json > /opt/told/without-rule.json
systemctl kill -s KILL marketswarm@mesh
await 'has "\\"resolution\\": *\\"restarted\\""'
cp /opt/given/rule /etc/polkit-1/rules.d/50-marketswarm-medic.rules
sleep 6
before=$(pid)
systemctl kill -s STOP marketswarm@mesh
await 'has "\\"resolution\\": *\\"healed\\""'
echo "$before $(pid)" > /opt/told/pids
cp /opt/told/now.json /opt/told/with-rule.json
systemctl stop marketswarm@mesh
await 'has "\\"stopped\\""'
systemctl is-active marketswarm@mesh > /opt/told/stopped
refused TryRestartUnit bus@6379.service > /opt/told/another-unit
refused StopUnit marketswarm@healer.service > /opt/told/another-verb
refused TryRestartUnit marketswarm@healer.service > /opt/told/one-that-may
journalctl -u marketswarm@medic -o cat --no-pager > /opt/told/medic.log
"""

IN_ITS_OWN_MOUNTS = ("unshare", "--mount", "--propagation", "private", "sh", "-c")
IN_ITS_OWN_MOUNTS += ('mount --bind -o ro / "$1" && shift && exec "$@"', "sh")
"""Run a command with this machine's files at the folder that is named first, where nobody else sees them.

They are gone with the command, however it ends: whoever cleans up folders of tests must not find them there.
"""


@pytest.fixture
def told(tmp_path):
    """What was told from within, after the story of PROOF."""
    if os.geteuid() != 0:
        pytest.skip("only root starts systemd-nspawn")
    given, out, root, venv = (tmp_path / name for name in ("given", "told", "root", "venv"))
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    for folder in (given, out, root, venv / "bin", packages := venv / "lib" / version / "site-packages"):
        folder.mkdir(parents=True)
    for name, text in {**GIVEN, "proof.sh": PROOF, "boot.sh": BOOT}.items():
        (given / name).write_text(text, encoding="utf-8")
    (venv / "pyvenv.cfg").write_text("home = /opt/python/bin\n", encoding="utf-8")
    (venv / "bin/python").symlink_to(f"/opt/python/bin/{version}")
    installed = next(Path(each) for each in sys.path if each.endswith("site-packages"))
    seen = {
        sys.base_prefix: "/opt/python",
        ROOT: "/opt/project",
        given: "/opt/given",
        venv: "/opt/marketswarm",
    }
    seen[installed] = f"/opt/marketswarm/{packages.relative_to(venv)}"
    command = [
        *("systemd-nspawn", "--quiet", f"--directory={root}", "--volatile=overlay", "--private-network"),
        *("--register=no", "--keep-unit", "--link-journal=no", "--console=pipe", f"--bind={out}:/opt/told"),
        *(f"--bind-ro={source}:{place}" for source, place in seen.items()),
        *("/bin/sh", "/opt/given/boot.sh"),
    ]
    environ = {**os.environ, "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": str(int(has_unified_hierarchy()))}
    with subprocess.Popen(
        [*IN_ITS_OWN_MOUNTS, root, *command],
        env=environ,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as box:
        try:
            box.wait(360)
        finally:
            box.terminate()  # ends what runs in it, too; a kill would leave it behind
    return out


def has_unified_hierarchy():
    return Path("/sys/fs/cgroup/cgroup.controllers").exists()


def read(folder, name):
    log = folder / "log"
    assert (folder / name).exists(), log.read_text(encoding="utf-8") if log.exists() else "it did not boot"
    return (folder / name).read_text(encoding="utf-8")


def test_medic_heals_units_of_a_real_systemd_as_far_as_a_real_polkit_lets_it(told):
    assert "NOT WITHIN" not in read(told, "log"), read(told, "log")
    assert read(told, "medic-restarts").strip() == "0", read(told, "log")
    (refused,) = json.loads(read(told, "without-rule.json"))
    assert [each["what"] for each in refused["timeline"]][-1] in {"abandoned", "refused", "escalated"}
    healed = json.loads(read(told, "with-rule.json"))[0]
    words = [each["what"] for each in healed["timeline"]]
    assert words[-4:] == ["intended", "acted", "verified", "resolved"], words
    before, after = read(told, "pids").split()
    assert before != after
    assert read(told, "stopped").strip() == "inactive", "an operator stopped it"
    for name in ("another-unit", "another-verb"):
        assert "authentication required" in read(told, name), name
    assert "job" in read(told, "one-that-may")
