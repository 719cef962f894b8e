"""Ask the vulnerability service about every pinned package.

A known vulnerability fails the check if a release without it exists: then there is something to do (`make lock`). One
without a fix, and a service that cannot be reached, are printed and do not fail: a check that nobody can make green
teaches people to ignore it.
"""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

TIMEOUT_SECONDS = 120


def main(lock_file: str) -> int:
    command = [sys.executable, "-m", "pip_audit", "--require-hashes", "--disable-pip", "--no-deps", "-r", lock_file]
    try:
        answer = subprocess.run(
            [*command, "--format", "json", "--progress-spinner", "off"],
            capture_output=True,
            text=True,
            check=False,
            timeout=TIMEOUT_SECONDS,
        )
        packages: list[dict[str, Any]] = json.loads(answer.stdout)["dependencies"]
    except (subprocess.TimeoutExpired, ValueError, KeyError):
        print(f"audit: warning: the vulnerability service is not reachable; {lock_file} was not audited")
        return 0
    audited = [package for package in packages if "vulns" in package]
    found = [(package, one) for package in audited for one in package["vulns"]]
    for package, one in found:
        fix = f"fixed in {', '.join(one['fix_versions'])}" if one["fix_versions"] else "no fix released yet"
        print(f"audit: {package['name']} {package['version']}: {one['id']}, {fix}")
    print(f"audit: {len(audited)} of {len(packages)} packages audited, {len(found)} known vulnerabilities")
    if len(audited) < len(packages):
        print(f"audit: warning: the service knew nothing of {len(packages) - len(audited)} packages")
    return 1 if any(one["fix_versions"] for _, one in found) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
