"""Check requirements.lock for known vulnerabilities by pip-audit; run it with `make audit`.

The exit code is 1 if a vulnerability is found. It is 0 if no service could be asked, and a line says so.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

WITHIN_SEC = 60
_SERVICES = ("pypi", "osv")


def judge_report(report: dict[str, Any]) -> tuple[int, list[str]]:
    """Return the exit code and the lines for people, from pip-audit's report in JSON. Pure."""
    flaws, audited, skipped = [], 0, []
    for each in report["dependencies"]:
        if "skip_reason" in each:
            skipped.append(each["name"])
            continue
        audited += 1
        for flaw in each["vulns"]:
            fixed = ", ".join(flaw.get("fix_versions", [])) or "no version yet"
            flaws.append(f"{each['name']} {each['version']}: {flaw['id']}, fixed in {fixed}")
    if flaws:
        return 1, [*flaws, f"== {len(flaws)} known vulnerabilities in requirements.lock"]
    if not audited:
        return 0, ["== NOT AUDITED: the index here has no data on vulnerabilities"]
    lines = [f"== audited: no known vulnerability in {audited} packages"]
    if skipped:
        lines.append(f"== NOT AUDITED, since the index does not know them: {', '.join(sorted(skipped))}")
    return 0, lines


def _run_audit(service: str) -> dict[str, Any] | str:
    """Return pip-audit's report, or the reason why there is none."""
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
    """Return 1 if a package is known to be vulnerable."""
    code, lines = 0, []
    for service in _SERVICES:
        report = _run_audit(service)
        if isinstance(report, str):
            lines.append(f"== NOT AUDITED by {service}: {report}")
            continue
        code, report_lines = judge_report(report)
        lines += report_lines
        if code or report_lines[0].startswith("== audited"):
            break
    print("\n".join(lines))
    return code


if __name__ == "__main__":
    if not Path("requirements.lock").is_file():
        sys.exit("run it where requirements.lock is")
    sys.exit(main())
