"""The repository's own files, as the house rules look at them."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache, cached_property
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
CODE = ("apps", "cdb_project", "workers", "proto", "tests", ".ci", "manage.py")
OTHERS = ("templates", "docker", "requirements", "docs", "Makefile", "pyproject.toml", "README.md", "CHANGELOG.md")
NOT_OURS = {"__pycache__", "node_modules"}
GENERATED = ("proto/gen/",)


class Source:
    """One Python file."""

    def __init__(self, name: str, text: str) -> None:
        self.name = name
        self.text = text
        self.tree = ast.parse(text, name)

    @cached_property
    def imported(self) -> set[str]:
        """Top-level names of everything imported, wherever in the file."""
        names = set()
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                names |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                names.add(node.module.split(".")[0])
        return names

    @cached_property
    def dotted(self) -> list[tuple[str, int]]:
        """Every name with dots in it, such as `time.monotonic`, with its line. Imports from a module count too."""
        found = []
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Attribute):
                found.append((ast.unparse(node), node.lineno))
            elif isinstance(node, ast.ImportFrom) and node.module:
                found += [(f"{node.module}.{alias.name}", node.lineno) for alias in node.names]
        return found


def relative(path: Path) -> str:
    return path.relative_to(REPOSITORY).as_posix()


def files(*roots: str) -> Iterator[Path]:
    """All files under these roots, generated and installed ones left out; roots that do not exist are skipped."""
    for root in roots or (*CODE, *OTHERS):
        start = REPOSITORY / root
        for path in sorted(start.rglob("*")) if start.is_dir() else [start]:
            if path.is_file() and not NOT_OURS & set(path.parts):
                yield path


@cache
def _parsed(root: str) -> tuple[Source, ...]:
    found = {relative(path): path for path in files(root) if path.suffix == ".py"}
    return tuple(
        Source(name, path.read_text(encoding="utf-8")) for name, path in found.items() if not name.startswith(GENERATED)
    )


def python_files(*roots: str) -> list[Source]:
    """The hand-written Python files under these roots, parsed."""
    return [source for root in roots or CODE for source in _parsed(root)]


def texts(*roots: str) -> Iterator[tuple[str, str]]:
    """(name, content) of every text file."""
    for path in files(*roots):
        try:
            yield relative(path), path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
