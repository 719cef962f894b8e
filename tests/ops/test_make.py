"""The front door: make's help and refusals, and the checks of dependencies, each seen to fail."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
GOOD_LOCK = """\
# made by a tool
alpha==1.0 \\
    --hash=sha256:00
    # via -r base.in
beta-two==2.0 \\
    --hash=sha256:11
"""


def run(*command: str | Path, folder: Path = REPOSITORY, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        cwd=folder,
        env={"PATH": os.environ["PATH"], **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_make_alone_lists_every_target_that_scripts_rely_on() -> None:
    answer = run("make")
    assert answer.returncode == 0
    listed = set(re.findall(r"(?m)^  make (\S+) +\S", answer.stdout))
    assert listed >= {"demo", "up", "down", "status", "logs", "test", "check", "bench", "bench-%", "help", "install"}


def test_an_old_python_is_one_clear_line(tmp_path: Path) -> None:
    old = tmp_path / "python-of-old"
    old.write_text("#!/bin/sh\nexit 1\n")
    old.chmod(0o755)
    shutil.copy(REPOSITORY / "Makefile", tmp_path)
    answer = run("make", "--silent", ".venv/bin/python", f"PYTHON={old}", folder=tmp_path)
    assert answer.returncode != 0
    assert answer.stderr.splitlines()[0].startswith(f"Python 3.11 or newer is needed, {old} is not")
    assert not (tmp_path / ".venv").exists()


def test_options_reach_the_stack() -> None:
    stamps = [argument for name in ("installed-base", "bin/python") for argument in ("-o", f".venv/{name}")]
    wanted = ("PORT=8123", "REPLAY=a.csv,b.csv", "SPEED=600", "TIER=NORMAL", "DETACH=1", "SEED=7", "NEW_SESSION=1")
    shown = run("make", "--dry-run", *stamps, "demo", *wanted).stdout
    line = next(line for line in shown.splitlines() if "stack up" in line)
    expected = "--mode demo --port 8123 --tier NORMAL --detach --new-session --replay a.csv,b.csv --speed 600 --seed 7"
    assert line.endswith(expected)


@pytest.mark.parametrize(
    ("lock", "asked", "problem"),
    [
        (GOOD_LOCK, "alpha\nbeta_two[extra]>=1\n", None),
        (GOOD_LOCK, "alpha\ngamma\n", "base.txt lacks gamma of base.in: run `make lock`"),
        (GOOD_LOCK.replace("    --hash=sha256:00\n", ""), "alpha\n", "base.txt: not pinned with a hash: alpha==1.0 \\"),
        (GOOD_LOCK.replace("alpha==1.0", "alpha>=1.0"), "beta-two\n", "not pinned with a hash: alpha>=1.0"),
        ("--index-url https://example.test/simple\n" + GOOD_LOCK, "alpha\n", "https://example.test/simple"),
    ],
)
def test_the_lock_check_names_what_is_wrong(tmp_path: Path, lock: str, asked: str, problem: str | None) -> None:
    folder = tmp_path / "requirements"
    (folder / "npm").mkdir(parents=True)
    (folder / "npm" / "package-lock.json").write_text(
        json.dumps({"packages": {"": {}, "a": {"integrity": "sha512-x"}}})
    )
    good = (GOOD_LOCK, "alpha\n")
    for name, text in (("base", (lock, asked)), ("dev", good), ("bench", good)):
        (folder / f"{name}.txt").write_text(text[0])
        (folder / f"{name}.in").write_text(text[1])
    answer = run(sys.executable, REPOSITORY / ".ci" / "locks.py", folder=tmp_path)
    assert answer.returncode == (0 if problem is None else 1)
    assert (problem or "every package is pinned") in answer.stdout


def vulnerable(*fixes: str) -> str:
    found = [{"name": "alpha", "version": "1.0", "vulns": [{"id": "CVE-1", "fix_versions": fixes}]}]
    return json.dumps({"dependencies": [*found, {"name": "beta", "skip_reason": "unknown"}]})


@pytest.mark.parametrize(
    ("service_says", "code", "words"),
    [
        (vulnerable("1.1"), 1, "alpha 1.0: CVE-1, fixed in 1.1"),
        (vulnerable(), 0, "alpha 1.0: CVE-1, no fix released yet"),
        ("", 0, "warning: the vulnerability service is not reachable"),
        (json.dumps({"dependencies": []}), 0, "0 of 0 packages audited"),
    ],
)
def test_the_audit_fails_only_where_there_is_something_to_do(
    tmp_path: Path, service_says: str, code: int, words: str
) -> None:
    """The auditing tool is replaced by one that prints what the service would have said."""
    (tmp_path / "pip_audit.py").write_text(f"print({service_says!r})")
    answer = run(sys.executable, REPOSITORY / ".ci" / "audit.py", "base.txt", PYTHONPATH=str(tmp_path))
    assert answer.returncode == code, answer.stderr
    assert words in answer.stdout
