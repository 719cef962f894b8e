"""Limits: versions are added, never changed; every version says who set it and why."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Final

from apps.engine.risk.words import number
from apps.outbox.transactions import retry_tx
from apps.portfolio.models import Account
from apps.portfolio.services import lock_account, save_account
from apps.risk.models import RiskLimits, RiskState
from apps.risk.selectors import current_limits

# name -> (smallest, largest) that may be set; whole numbers where both ends are int
RANGES: Final[dict[str, tuple[Decimal, Decimal] | tuple[int, int]]] = {
    "order_size": (Decimal("0.0001"), Decimal(1)),
    "order_notional_max": (Decimal("0.0001"), Decimal(1)),
    "position_max": (Decimal("0.0001"), Decimal(1)),
    "exposure_max": (Decimal("0.0001"), Decimal(1)),
    "collar": (Decimal("0.0001"), Decimal("0.2")),
    "exit_band": (Decimal("0.001"), Decimal("0.5")),
    "positions_per_symbol_max": (0, 1_000),
    "open_orders_symbol_max": (0, 100),
    "open_orders_max": (0, 1_000),
    "orders_per_second_max": (0, 100),
    "orders_per_minute_max": (0, 1_000),
    "orders_per_day_max": (0, 100_000),
    "exits_per_second_max": (1, 1_000),
    "duplicate_ms": (0, 60_000),
    "feed_age_max_ms": (100, 60_000),
    "signal_age_max_ms": (100, 60_000),
    "adaptive_tiers": (0, 1),
    "tier_dwell_minutes": (60, 525_600),
}


class LimitError(ValueError):
    """A limit that cannot be set as asked; one line for the operator."""


def install_risk(*, account: Account, set_by: str, reason: str) -> RiskLimits:
    """Default limits and an ACTIVE state for a new account. What exists stays as it is."""
    limits, _ = RiskLimits.objects.get_or_create(
        account=account, version=1, defaults={"set_by": set_by, "reason": reason}
    )
    RiskState.objects.get_or_create(
        account=account, defaults={"state_set_by": set_by, "state_reason": reason, "sequence": account.sequence}
    )
    return limits


def parse_limits(assignments: Iterable[str]) -> dict[str, Decimal | int]:
    """`name=value` texts as checked values. Raises `LimitError`."""
    changes: dict[str, Decimal | int] = {}
    for text in assignments:
        name, separator, value = text.partition("=")
        if not separator or name in changes:
            raise LimitError(f"{text!r} is not of the form name=value" if not separator else f"{name} is given twice")
        changes[name] = _parse(name, value)
    if not changes:
        raise LimitError("name at least one limit as name=value")
    return changes


def _parse(name: str, text: str) -> Decimal | int:
    if name not in RANGES:
        raise LimitError(f"unknown limit {name!r} (known: {', '.join(RANGES)})")
    smallest, largest = RANGES[name]
    pattern = r"[0-9]{1,9}" if isinstance(smallest, int) else r"[0-9]{1,9}(\.[0-9]{1,6})?"
    kind = "a whole number" if isinstance(smallest, int) else "a number with at most six decimals"
    value = Decimal(text) if re.fullmatch(pattern, text) else None
    if value is None or not smallest <= value <= largest:
        raise LimitError(
            f"{name}={text!r} is not {kind} from {number(Decimal(smallest))} to {number(Decimal(largest))}"
        )
    return int(value) if isinstance(smallest, int) else value


def change_limits(
    *, account_id: int, changes: Mapping[str, Decimal | int], set_by: str, reason: str
) -> tuple[RiskLimits, RiskLimits]:
    """Add a version with `changes` over the newest one. Returns (the one before, the new one)."""

    def change() -> tuple[RiskLimits, RiskLimits]:
        account = lock_account(account_id)
        before = current_limits(account_id)
        values = {name: getattr(before, name) for name in RANGES} | dict(changes)
        after = RiskLimits.objects.create(
            account=account, version=before.version + 1, set_by=set_by, reason=reason[:200], **values
        )
        account.sequence += 1
        save_account(account)
        return before, after

    return retry_tx(change)
