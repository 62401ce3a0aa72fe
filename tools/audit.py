"""Holds requirements.lock against the known vulnerabilities, by pip-audit; run it with `make audit`.

A vulnerability that is found fails. That nobody could be asked does not, and is said.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

WITHIN_SEC = 60
_SERVICES = ("pypi", "osv")


def judged(report: dict[str, Any]) -> tuple[int, list[str]]:
    """The exit code and the lines for a person, from pip-audit's report in JSON. Pure."""
    found, asked, skipped = [], 0, []
    for each in report["dependencies"]:
        if "skip_reason" in each:
            skipped.append(each["name"])
            continue
        asked += 1
        for flaw in each["vulns"]:
            fixed = ", ".join(flaw.get("fix_versions", [])) or "no version yet"
            found.append(f"{each['name']} {each['version']}: {flaw['id']}, fixed in {fixed}")
    if found:
        return 1, [*found, f"== {len(found)} known vulnerabilities in requirements.lock"]
    if not asked:
        return 0, ["== NOT AUDITED: the index here tells nothing of vulnerabilities"]
    lines = [f"== audited: no known vulnerability in {asked} packages"]
    if skipped:
        lines.append(f"== NOT AUDITED, since the index does not know them: {', '.join(sorted(skipped))}")
    return 0, lines


def _report(service: str) -> dict[str, Any] | str:
    """What pip-audit says with one service, or why it says nothing."""
    lock = ["-r", "requirements.lock", "--require-hashes", "--disable-pip"]
    line = [
        sys.executable,
        "-m",
        "pip_audit",
        *lock,
        "-s",
        service,
        "-f",
        "json",
        "--progress-spinner",
        "off",
    ]
    try:
        done = subprocess.run(line, capture_output=True, text=True, timeout=WITHIN_SEC, check=False)
    except subprocess.TimeoutExpired:
        return f"no answer within {WITHIN_SEC} s"
    try:
        return dict(json.loads(done.stdout))
    except ValueError:
        return (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1][:100]


def main() -> int:
    """The exit code: 1 when something is known to be vulnerable."""
    code, lines = 0, []
    for service in _SERVICES:
        report = _report(service)
        if isinstance(report, str):
            lines.append(f"== NOT AUDITED by {service}: {report}")
            continue
        code, said = judged(report)
        lines += said
        if code or said[0].startswith("== audited"):
            break
    print("\n".join(lines))
    return code


if __name__ == "__main__":
    if not Path("requirements.lock").is_file():
        sys.exit("run it where requirements.lock is")
    sys.exit(main())
