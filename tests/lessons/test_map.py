"""docs/lessons.md and docs/acceptance.md name tests that exist, and leave nothing out."""

from __future__ import annotations

import ast
import re
from functools import cache
from typing import Final

from tests.house.sources import REPOSITORY

MAP: Final = (REPOSITORY / "docs" / "lessons.md").read_text(encoding="utf-8")
ACCEPTANCE: Final = (REPOSITORY / "docs" / "acceptance.md").read_text(encoding="utf-8")
ROW: Final = re.compile(r"^\| (\d+) \|(.+)\|(.+)\|(.*)\|$", re.MULTILINE)
TEST: Final = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")
NOT_BUILT: Final = {20, 21, 22, 39}


@cache
def named_in(name: str) -> frozenset[str]:
    """Test functions of a file; none if there is no such file."""
    path = REPOSITORY / name
    if not path.is_file():
        return frozenset()
    tree = ast.parse(path.read_text(encoding="utf-8"))
    functions = [node for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    return frozenset(function.name for function in functions if function.name.startswith("test_"))


def unknown(text: str) -> list[str]:
    return [f"{path}::{name}" for path, name in TEST.findall(text) if name not in named_in(path)]


def test_every_test_that_the_map_names_exists() -> None:
    assert len(TEST.findall(MAP)) == MAP.count("::") > 80
    assert unknown(MAP) == []


def test_each_of_the_eleven_demands_has_tests_that_exist() -> None:
    rows = ROW.findall(ACCEPTANCE)
    assert [int(number) for number, *_ in rows] == list(range(1, 12))
    assert all(TEST.search(tests) for *_, tests in rows)
    assert unknown(ACCEPTANCE) == []


def test_a_test_that_does_not_exist_is_noticed() -> None:
    assert unknown("`tests/lessons/test_map.py::test_nothing` and `tests/lessons/test_none.py::test_map`") == [
        "tests/lessons/test_map.py::test_nothing",
        "tests/lessons/test_none.py::test_map",
    ]


def test_all_forty_two_are_there_once_and_in_order() -> None:
    assert [int(row[0]) for row in ROW.findall(MAP)] == list(range(1, 43))


def test_each_has_a_test_or_says_with_which_part_it_comes() -> None:
    for number, _, instead, tests in ROW.findall(MAP):
        assert bool(TEST.search(tests)) is (int(number) not in NOT_BUILT), number
        if int(number) in NOT_BUILT:
            assert re.search(r"comes with|as 20", instead), number


def test_every_test_of_this_folder_is_named_in_one_of_the_two() -> None:
    here = {path.relative_to(REPOSITORY).as_posix() for path in (REPOSITORY / "tests" / "lessons").glob("test_*.py")}
    ours = {(name, test) for name in here - {"tests/lessons/test_map.py"} for test in named_in(name)}
    assert ours <= set(TEST.findall(MAP + ACCEPTANCE))
