"""Words that may stand only where they belong."""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath

import pytest

from tests.house.sources import CODE, OTHERS, REPOSITORY, files, relative, texts

# The exchange's name, in whole files: what speaks its language, and what is written for people.
NAMES_THE_EXCHANGE = (
    "proto/",
    "workers/ingest/",
    "workers/exchange/",
    "workers/private_stream/",
    "apps/market/rest.py",
    "apps/execution/venues/mexc",
    "tests/proto/",
    "tests/exchange/",
    "tests/ingest/",
    "tests/execution/test_mexc",
    "tests/execution/exchange_venue.py",
    "tests/house/test_words.py",
    "docs/",
    "README.md",
    "CHANGELOG.md",
)
# And in single lines elsewhere.
NAMES_IT_IN_A_LINE = {
    "cdb_project/settings.py": r'^EXCHANGE_\w+_URL = "(https|wss)://[a-z.-]+mexc\.com[a-z/]*"$',
    "pyproject.toml": r"^description = ",
    "tests/house/test_clocks.py": r'^    "apps/execution/venues/mexc/(client|of_session)\.py": ',
    "apps/execution/venues/exchange.py": r"^from apps\.execution\.venues\.mexc",
    "tests/bench/receivers.py": r"^class \w+\(ccxt\.pro\.mexc\):",
}
WITHOUT_MEANING = {"util", "utils", "common", "misc", "lib", "shared", "stuff"}
PRIVATE_PATH = re.compile(r"(?<![\w.}/])/(home|root|Users|work)/\w")


def exchange_named(name: str, text: str) -> list[str]:
    """The lines of a file that name the exchange and should not."""
    if name.startswith(NAMES_THE_EXCHANGE):
        return []
    allowed = NAMES_IT_IN_A_LINE.get(name, r"(?!)")
    return [
        f"{name}:{number}: {line.strip()}"
        for number, line in enumerate(text.splitlines(), 1)
        if "mexc" in line.lower() and not re.search(allowed, line)
    ]


def private_paths(name: str, text: str) -> list[str]:
    own = [str(REPOSITORY)] + ([str(Path.home())] if len(Path.home().parts) > 2 else [])
    return [
        f"{name}:{number}: {line.strip()[:120]}"
        for number, line in enumerate(text.splitlines(), 1)
        if PRIVATE_PATH.search(line) or any(path in line for path in own)
    ]


def test_the_exchange_is_named_only_where_its_language_is_spoken() -> None:
    assert not [line for name, text in texts() for line in exchange_named(name, text)]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("apps/signals/models.py", "# the MEXC symbol"),
        ("templates/live.html", "<p>Mexc</p>"),
        ("cdb_project/settings.py", 'VENUE = "mexc"'),
    ],
)
def test_the_exchange_named_elsewhere_is_found(name: str, text: str) -> None:
    assert exchange_named(name, text)


def test_every_exception_is_in_use() -> None:
    lines = {name: text.lower() for name, text in texts(*NAMES_IT_IN_A_LINE)}
    assert not [name for name in NAMES_IT_IN_A_LINE if "mexc" not in lines[name]]


def test_every_module_says_what_it_is_about() -> None:
    parts = {
        part: relative(path) for path in files(*CODE) for part in PurePosixPath(relative(path)).with_suffix("").parts
    }
    assert not {part: path for part, path in parts.items() if part.lower() in WITHOUT_MEANING}


def test_no_file_names_a_path_of_one_machine() -> None:
    assert not [line for name, text in texts(*CODE, *OTHERS) for line in private_paths(name, text)]


def test_a_path_of_one_machine_is_found() -> None:
    assert private_paths("docs/a.md", f"cd {REPOSITORY}/apps")
    assert private_paths("docs/a.md", "see " + "/home" + "/somebody/notes")
    assert not private_paths("docs/a.md", "GET https://example.org/home/page and var/house/x")
