"""What a request is judged with: the strategy, its parameters checked against their bounds, and the limits."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from apps.backtest.values import BacktestRefused
from apps.engine.risk.values import Limits
from apps.engine.strategies import STRATEGIES
from apps.risk.models import RiskLimits
from apps.risk.selectors import limits_of
from apps.signals.models import StrategyVersion


@dataclass(frozen=True, slots=True)
class Judge:
    """A strategy with every parameter. `version_id` is 0 where no stored version is meant."""

    strategy: str
    version_id: int
    parameters: Mapping[str, Any]


def judge_of(strategy: str, version: int | None, changes: Mapping[str, Any]) -> Judge:
    """The strategy's defaults or a stored version's parameters, with these changes. Raises `BacktestRefused`."""
    if strategy not in STRATEGIES:
        raise BacktestRefused(f"there is no strategy {strategy} (there are: {', '.join(sorted(STRATEGIES))})")
    if version is None:
        return changed(Judge(strategy, 0, {}), changes)
    row = StrategyVersion.objects.filter(strategy__name=strategy, version=version).first()
    if row is None:
        newest = StrategyVersion.objects.filter(strategy__name=strategy).order_by("-version").first()
        held = f"the newest is {newest.version}" if newest else "none is stored yet"
        raise BacktestRefused(f"{strategy} has no version {version} ({held})")
    return changed(Judge(strategy, row.pk, row.parameters), changes)


def changed(judge: Judge, changes: Mapping[str, Any]) -> Judge:
    """The same strategy with other parameters, all of them checked. Raises `BacktestRefused`."""
    module = STRATEGIES[judge.strategy]
    names = [spec.name for spec in module.parameters]
    unknown = next((name for name in changes if name not in names), None)
    if unknown is not None:
        close = difflib.get_close_matches(unknown, names, n=1)
        hint = f"is {close[0]} meant?" if close else f"there are: {', '.join(names)}"
        raise BacktestRefused(f"{judge.strategy} has no parameter {unknown} ({hint})")
    try:
        return Judge(judge.strategy, judge.version_id, module.validate({**judge.parameters, **changes}))
    except ValueError as error:
        raise BacktestRefused(str(error)) from error


def default_limits() -> Limits:
    """What a new account may do."""
    row = RiskLimits()
    row.clean_fields(exclude=["account", "version", "set_by", "reason"])  # so that defaults are of their columns' types
    return limits_of(row)
