"""Stacks for tests: each in a temporary directory, always taken down."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from apps.ops.embedded.home import read_home, remove_servers
from tests.road.stack import Stack, free_port


def forget(stack: Stack) -> None:
    """Take it down; as root also what its servers keep outside the temporary directory."""
    stack.manage("stack", "down", check=False)
    if (stack.folder / "layout").exists():
        remove_servers(read_home(stack.folder))


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Stack]:
    """A stack that is not started yet."""
    made = Stack(tmp_path / "data", free_port())
    yield made
    forget(made)


@pytest.fixture(scope="module")
def module_stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """One stack for all tests of a module."""
    made = Stack(tmp_path_factory.mktemp("road") / "data", free_port())
    yield made
    forget(made)
