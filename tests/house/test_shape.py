"""Files end before a reader tires, functions before the screen does."""

from __future__ import annotations

import ast

from tests.house.sources import Source, python_files

FILE_LINES_MAX = 400
FUNCTION_LINES_MAX = 70


def too_long(source: Source) -> list[str]:
    """What of a file passes a limit, in words."""
    lines = source.text.count("\n")
    found = [f"{source.name}: {lines} lines"] if lines > FILE_LINES_MAX else []
    for node in ast.walk(source.tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.end_lineno:
            length = node.end_lineno - node.lineno + 1
            if length > FUNCTION_LINES_MAX:
                found.append(f"{source.name}: {node.name} has {length} lines")
    return found


def unexplained(source: Source) -> bool:
    """A module with something in it begins by saying what it is."""
    return bool(source.tree.body) and not ast.get_docstring(source.tree)


def hand_written() -> list[Source]:
    return [source for source in python_files() if "/migrations/" not in source.name]


def with_content() -> list[Source]:
    """Without Django's declarations of apps, which explain themselves."""
    return [source for source in hand_written() if not source.name.endswith("/apps.py")]


def test_files_and_functions_stay_short() -> None:
    assert not [words for source in hand_written() for words in too_long(source)]


def test_every_module_says_what_it_is() -> None:
    assert not [source.name for source in with_content() if unexplained(source)]


def test_what_is_too_long_is_named() -> None:
    body = "    x = 1\n"
    assert not too_long(Source("a.py", "def f():\n" + body * 69))
    assert too_long(Source("a.py", "def f():\n" + body * 70)) == ["a.py: f has 71 lines"]
    assert too_long(Source("a.py", "class C:\n    async def f(self):\n" + ("    " + body) * 70))
    assert too_long(Source("a.py", "x = 1\n" * 401)) == ["a.py: 401 lines"]
