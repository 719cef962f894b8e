"""What is installed is what was locked: pinned, hashed, and from no address in particular."""

from __future__ import annotations

import importlib.metadata
import re
import runpy
import shutil
from pathlib import Path

import pytest

from tests.house.sources import REPOSITORY

REQUIREMENTS = REPOSITORY / "requirements"
CHECKS = runpy.run_path(str(REPOSITORY / ".ci" / "locks.py"))


@pytest.fixture
def copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the requirements, in the current directory of the check."""
    shutil.copytree(REQUIREMENTS, tmp_path / "requirements", ignore=shutil.ignore_patterns("node_modules"))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "requirements"


@pytest.mark.parametrize("name", ["base", "dev", "bench"])
def test_every_package_is_pinned_with_hashes_and_no_address_is_named(copy: Path, name: str) -> None:
    assert CHECKS["problems"](name) == []


def test_the_front_end_packages_too(copy: Path) -> None:
    assert CHECKS["page_problems"]() == []


@pytest.mark.parametrize(
    ("pattern", "replacement", "words"),
    [
        (r"\nredis==\S+ \\\n(    --hash=\S+( \\)?\n)+", "\nredis==8.1.0\n", "not pinned with a hash: redis==8.1.0"),
        (r"\nredis==", "\nredis>=", "not pinned with a hash: redis>="),
        (r"\A", "--index-url https://example.org/simple\n", "holds an address: https://example.org/simple"),
        (r"\nredis==[^#]+#[^\n]+(\n    #[^\n]+)*", "", "lacks redis of base.in"),
    ],
)
def test_a_damaged_lock_is_named(copy: Path, pattern: str, replacement: str, words: str) -> None:
    lock = copy / "base.txt"
    damaged, count = re.subn(pattern, lambda _: replacement, lock.read_text(), count=1)
    assert count == 1
    lock.write_text(damaged)
    assert any(words in problem for problem in CHECKS["problems"]("base"))


@pytest.mark.parametrize(
    "package",
    ["celery", "kombu", "redis", "channels", "channels-redis", "django", "psycopg", "uvicorn", "websocket-client"],
)
def test_the_installed_version_is_the_locked_one(package: str) -> None:
    """The settings around these were measured with exactly these versions: `make test-stack` measures again."""
    locked = re.search(rf"(?m)^{package}==(\S+)", (REQUIREMENTS / "base.txt").read_text())
    assert locked
    assert importlib.metadata.version(package) == locked[1]
