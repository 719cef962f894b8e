"""Versions of strategies: added with who and why, checked by the strategy itself, never changed."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final

from django.db import transaction

from apps.signals.models import Strategy, StrategyVersion

if TYPE_CHECKING:
    from apps.engine.strategies.base import StrategyModule

SYSTEM: Final = "system"
AUTHOR_MAX: Final = 150
REASON_MAX: Final = 200


class VersionRefused(ValueError):
    """A version that cannot be made as asked; one line for whoever asked."""


def differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, list[Any]]:
    """What differs between two sets of parameters: name -> [before, after], None where one has no such name."""
    names = [*before, *(name for name in after if name not in before)]
    return {
        name: [before.get(name), after.get(name)]
        for name in names
        if before.get(name) != after.get(name) or (name in before) != (name in after)
    }


def newest_version(strategy: Strategy) -> StrategyVersion | None:
    return strategy.versions.order_by("-version").first()


def parse_assignments(assignments: Iterable[str]) -> dict[str, str]:
    """`name=value` texts. Raises `VersionRefused`."""
    given: dict[str, str] = {}
    for text in assignments:
        name, separator, value = text.partition("=")
        if not separator or not name.strip():
            raise VersionRefused(f"{text!r} is not of the form name=value")
        if name.strip() in given:
            raise VersionRefused(f"{name.strip()} is given twice")
        given[name.strip()] = value.strip()
    return given


def checked(name: str, parameters: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters in the form in which a version stores them, defaults filled in.

    Raises `VersionRefused`, naming parameter, unit and bounds.
    """
    try:
        return module_of(name).validate(parameters)
    except ValueError as error:
        raise VersionRefused(str(error)) from error


def module_of(name: str) -> StrategyModule:
    """The strategy's module. Raises `VersionRefused` for a name that none has."""
    from apps.engine.strategies import STRATEGIES  # brings the compiler, which few processes need

    if name not in STRATEGIES:
        raise VersionRefused(f"there is no strategy {name[:40]} (there are: {', '.join(STRATEGIES)})")
    return STRATEGIES[name]


def described(name: str) -> str:
    """What a strategy does: the first paragraph of its module."""
    text = sys.modules[module_of(name).pack.__module__].__doc__ or name
    return " ".join(text.split("\n\n")[0].split())


def add_version(
    *, name: str, changes: Mapping[str, Any], author: str, reason: str, engine_hash: str
) -> StrategyVersion:
    """The next version of a strategy: the newest one's parameters with `changes` over them.

    The first version of a strategy starts from its defaults. Raises `VersionRefused`.
    """
    refuse_nameless(author, reason)
    module_of(name)  # loading a strategy takes seconds: not in a transaction
    with transaction.atomic():
        strategy = _locked(name)
        before = newest_version(strategy)
        known = {} if before is None else before.parameters
        return _next(strategy, before, checked(name, {**known, **changes}), author, reason, engine_hash)


def version_with(
    *, name: str, parameters: Mapping[str, Any], author: str, reason: str, engine_hash: str
) -> StrategyVersion:
    """The version with exactly these (checked) parameters and engine sources, or the next one."""
    with transaction.atomic():
        strategy = _locked(name)
        known = strategy.versions.filter(parameters=dict(parameters), engine_hash=engine_hash).first()
        return known or _next(strategy, newest_version(strategy), dict(parameters), author, reason, engine_hash)


def refuse_nameless(author: str, reason: str) -> None:
    """Raises `VersionRefused` unless both are given and fit their columns."""
    if not author.strip() or len(author) > AUTHOR_MAX:
        raise VersionRefused(f"say who makes the version, in 1 to {AUTHOR_MAX} characters")
    if not reason.strip() or len(reason) > REASON_MAX:
        raise VersionRefused(f"say why, in 1 to {REASON_MAX} characters")


def _locked(name: str) -> Strategy:
    """The strategy, locked so that two new versions get two numbers."""
    found = Strategy.objects.select_for_update().filter(name=name).first()
    if found is not None:
        return found
    Strategy.objects.get_or_create(name=name, defaults={"description": described(name)})
    return Strategy.objects.select_for_update().get(name=name)


def _next(
    strategy: Strategy,
    before: StrategyVersion | None,
    parameters: dict[str, Any],
    author: str,
    reason: str,
    engine_hash: str,
) -> StrategyVersion:
    return StrategyVersion.objects.create(
        strategy=strategy,
        version=1 if before is None else before.version + 1,
        parameters=parameters,
        engine_hash=engine_hash,
        author=author,
        reason=reason,
        changes=differences({} if before is None else before.parameters, parameters),
    )
