"""What the repository may not hold or hide: settings that arm it, tests that nobody runs, keys that nobody needs."""

from __future__ import annotations

from fnmatch import fnmatch
from pathlib import PurePosixPath

import pytest

from apps.ops.embedded.home import SECRET_NAMES
from cdb_project.settings import KNOWN_SETTINGS
from tests.house.sources import REPOSITORY, files, relative

ARMING = ("LIVE", "MOCK", "CONFIRM", "REAL", "DRY", "RISK", "DISABLE")
KEY_WORDS = ("api", "exchange", "venue", "trad")


def hidden(name: str, patterns: list[str]) -> bool:
    """Whether git would not see a file of this name. Patterns of ours are names, with `*` at most."""
    parts = PurePosixPath(name).parts
    return any(fnmatch(part, pattern.strip("/")) for pattern in patterns for part in parts)


def ignored() -> list[str]:
    lines = (REPOSITORY / ".gitignore").read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line.strip() and not line.startswith("#")]


def test_no_source_and_no_test_is_hidden_from_git() -> None:
    names = [relative(path) for path in files() if path.suffix != ".pyc"]
    assert any(name.startswith("tests/") for name in names)
    assert not [name for name in names if hidden(name, ignored())]


@pytest.mark.parametrize("pattern", ["*test*.py", "tests/", "test_*"])
def test_a_pattern_that_hides_tests_is_found(pattern: str) -> None:
    assert hidden("tests/risk/test_decisions.py", [pattern])


def test_no_file_of_environment_variables_lies_in_the_repository() -> None:
    beside = [path.name for path in REPOSITORY.glob(".env*")]
    inside = [relative(path) for path in files() if path.name.startswith(".env") or path.suffix == ".env"]
    assert beside + inside == []


def test_no_setting_arms_trading_or_turns_risk_off() -> None:
    """Trading with money is a matter of a session and of people, never of a variable that a file may carry along."""
    assert not [name for name in KNOWN_SETTINGS if any(word in name for word in ARMING)]


def test_a_paper_stack_holds_no_key_of_an_exchange() -> None:
    assert not [name for name in SECRET_NAMES if any(word in name.lower() for word in KEY_WORDS)]
