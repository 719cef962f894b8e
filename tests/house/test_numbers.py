"""Money is never a float."""

from __future__ import annotations

import ast

import pytest
from django.apps import apps
from django.db import models

from tests.house.sources import Source, python_files

INDICATORS = {
    (model, name) for model in ("signals.Signal", "signals.SignalRefusal") for name in ("change", "rsi", "turnover")
} | {("risk.TierChange", name) for name in ("lower", "upper")}  # an interval of a share, no money
MONEY = (
    "apps/portfolio", "apps/risk", "apps/execution", "apps/engine/risk", "apps/engine/desk", "apps/engine/money.py",
    "apps/engine/matching.py", "apps/engine/portfolio.py", "apps/engine/reconciling.py", "apps/engine/sizing.py",
    "apps/ops/verify",
)  # fmt: skip


def floats(source: Source) -> list[str]:
    """Where a file makes a float: by calling it, or by writing one down."""
    found = []
    for node in ast.walk(source.tree):
        called = isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "float"
        written = isinstance(node, ast.Constant) and isinstance(node.value, float)
        if isinstance(node, ast.expr) and (called or written):
            found.append(f"{source.name}:{node.lineno} {ast.unparse(node)}")
    return found


def test_only_indicators_are_stored_as_floats() -> None:
    stored = {
        (model._meta.label, field.name)
        for model in apps.get_models()
        if model.__module__.startswith("apps.")
        for field in model._meta.get_fields()
        if isinstance(field, models.FloatField)
    }
    assert stored == INDICATORS


def test_no_float_is_made_where_money_is_handled() -> None:
    assert not [words for source in python_files(*MONEY) for words in floats(source)]


@pytest.mark.parametrize("text", ["x = float('1.5')", "x = y * 1.001", "def f(share: object = 1e-9) -> None: ..."])
def test_a_float_is_found(text: str) -> None:
    assert floats(Source("apps/risk/services/assess.py", text))


def test_whole_numbers_and_decimals_are_no_floats() -> None:
    assert not floats(Source("apps/risk/a.py", "from decimal import Decimal\nx: float | int = Decimal('1.5') * 2"))
