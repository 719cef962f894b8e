"""Stacks for tests: each in a temporary directory, always taken down."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.road.stack import Stack, free_port


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Stack]:
    """A stack that is not started yet."""
    made = Stack(tmp_path / "data", free_port())
    yield made
    made.manage("stack", "down", check=False)


@pytest.fixture(scope="module")
def module_stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """One stack for all tests of a module."""
    made = Stack(tmp_path_factory.mktemp("road") / "data", free_port())
    yield made
    made.manage("stack", "down", check=False)
