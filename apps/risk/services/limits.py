"""Limits: versions are added, never changed; every version says who set it and why."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Final

from apps.engine import timeouts
from apps.engine.risk.days import UnknownZone, zone_of
from apps.engine.risk.words import number, plain
from apps.outbox.transactions import retry_tx
from apps.portfolio.models import Account
from apps.portfolio.services import lock_account, save_account
from apps.risk.models import LimitsRefusal, RiskLimits, RiskState, SizingMode
from apps.risk.selectors import current_limits

Value = Decimal | int | str
FRACTION: Final = (Decimal("0.0001"), Decimal(1))
LOSS: Final = (Decimal("0.001"), Decimal(1))
ORDERS_SEEN: Final = 200
"""So many of the newest orders are looked at for the share that failed."""

# name -> (smallest, largest) that may be set; whole numbers where both ends are int
RANGES: Final[dict[str, tuple[Decimal, Decimal] | tuple[int, int]]] = {
    "order_size": FRACTION,
    "order_notional": (Decimal("0.000001"), Decimal(1_000_000_000)),
    "risk_fraction": (Decimal("0.00001"), Decimal("0.1")),
    "volatility_multiple": (Decimal("0.1"), Decimal(100)),
    "order_notional_max": FRACTION,
    "position_max": FRACTION,
    "exposure_max": FRACTION,
    "collar": (Decimal("0.0001"), Decimal("0.2")),
    "exit_band": (Decimal("0.001"), Decimal("0.5")),
    "bad_tick": (Decimal("0.1"), Decimal(1)),
    "day_loss_reducing": LOSS,
    "day_loss_halted": LOSS,
    "drawdown_reducing": LOSS,
    "drawdown_halted": LOSS,
    "positions_per_symbol_max": (0, 1_000),
    "open_orders_symbol_max": (0, 100),
    "open_orders_max": (0, 1_000),
    "orders_per_second_max": (0, 100),
    "orders_per_minute_max": (0, 1_000),
    "orders_per_day_max": (0, 100_000),
    "exits_per_second_max": (1, 1_000),
    "repeat_max": (0, 1_000),
    "repeat_window_ms": (1_000, 3_600_000),
    "duplicate_ms": (0, 60_000),
    "feed_age_max_ms": (100, 60_000),
    "signal_age_max_ms": (100, 60_000),
    "heartbeat_age_max_ms": (1_000, 600_000),
    "feed_silence_max_ms": (1_000, 600_000),
    "error_rate_max": (Decimal("0.01"), Decimal(1)),
    "error_rate_orders_min": (1, ORDERS_SEEN),
    "error_rate_window_ms": (10_000, 3_600_000),
    "reconcile_orders_age_max_ms": (2_000 * timeouts.RECONCILE_ORDERS_SECONDS, 3_600_000),
    "reconcile_full_age_max_ms": (2_000 * timeouts.RECONCILE_FULL_SECONDS, 3_600_000),
    "reconcile_book_max": (Decimal(0), Decimal(1_000_000_000)),
    "reconcile_balance_max": (Decimal(0), Decimal(1_000_000_000)),
    "adaptive_tiers": (0, 1),
    "tier_dwell_minutes": (60, 525_600),
}
# given as 30 where 0.30 is meant: fractions of something that a whole is 1 of
FRACTIONS: Final = frozenset(
    name for name, (_, largest) in RANGES.items() if largest <= 1 and not isinstance(largest, int)
)
TEXTS: Final = ("sizing", "trading_day_zone")
NAMES: Final = (*RANGES, *TEXTS)

# (a, b): a must not be above b
AT_MOST: Final = (
    ("order_size", "order_notional_max"),
    ("order_notional_max", "position_max"),
    ("position_max", "exposure_max"),
    ("orders_per_second_max", "orders_per_minute_max"),
    ("orders_per_minute_max", "orders_per_day_max"),
    ("open_orders_symbol_max", "open_orders_max"),
    ("duplicate_ms", "repeat_window_ms"),
    ("collar", "exit_band"),
    ("feed_age_max_ms", "feed_silence_max_ms"),
    ("reconcile_orders_age_max_ms", "reconcile_full_age_max_ms"),
    ("reconcile_balance_max", "reconcile_book_max"),
)
# (a, b): a must be below b
BELOW: Final = (("day_loss_reducing", "day_loss_halted"), ("drawdown_reducing", "drawdown_halted"))


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


def parse_limits(assignments: Iterable[str]) -> dict[str, Value]:
    """`name=value` texts as checked values. Raises `LimitError`."""
    changes: dict[str, Value] = {}
    for text in assignments:
        name, separator, value = text.partition("=")
        if not separator or name in changes:
            raise LimitError(f"{text!r} is not of the form name=value" if not separator else f"{name} is given twice")
        changes[name] = _parse(name, value)
    if not changes:
        raise LimitError("name at least one limit as name=value")
    return changes


def _parse(name: str, text: str) -> Value:
    if name not in NAMES:
        raise LimitError(f"unknown limit {name!r} (known: {', '.join(NAMES)})")
    if name in TEXTS:
        return _parse_text(name, text)
    smallest, largest = RANGES[name]
    pattern = r"[0-9]{1,10}" if isinstance(smallest, int) else r"[0-9]{1,10}(\.[0-9]{1,6})?"
    kind = "a whole number" if isinstance(smallest, int) else "a number with at most six decimals"
    value = Decimal(text) if re.fullmatch(pattern, text) else None
    if value is None or not smallest <= value <= largest:
        words = f"{name}={text!r} is not {kind} from {number(Decimal(smallest))} to {number(Decimal(largest))}"
        raise LimitError(words + _meant(name, value))
    return int(value) if isinstance(smallest, int) else value


def _meant(name: str, value: Decimal | None) -> str:
    """Per cent where a fraction is asked for."""
    smallest, largest = RANGES[name]
    if name not in FRACTIONS or value is None or not largest < value <= 100 or not smallest <= value / 100 <= largest:
        return ""
    shown = (value / 100).quantize(Decimal("0.01")) if value % 1 == 0 else value / 100
    return f": for {plain(value)} per cent write {shown}"


def _parse_text(name: str, text: str) -> str:
    if name == "sizing":
        if text not in SizingMode.values:
            raise LimitError(f"sizing={text!r} is not one of {', '.join(SizingMode.values)}")
        return text
    try:
        zone_of(text)
    except UnknownZone as error:
        raise LimitError(f"{name}={text!r}: {error}") from error
    return text


def contradiction(values: Mapping[str, Value]) -> str:
    """The first pair of limits that cannot both be meant, in words; empty if there is none."""
    for small, large in AT_MOST:
        if Decimal(values[small]) > Decimal(values[large]):
            return f"{small}={_text(values[small])} is above {large}={_text(values[large])}"
    for small, large in BELOW:
        if 1 > Decimal(values[small]) >= Decimal(values[large]):
            return f"{small}={_text(values[small])} is not below {large}={_text(values[large])}"
    return ""


def limit_text(row: RiskLimits, name: str) -> str:
    """One limit of a version as it would be set."""
    return _text(getattr(row, name))


def _text(value: Value) -> str:
    return value if isinstance(value, str) else plain(Decimal(value))


def change_limits(
    *, account_id: int, changes: Mapping[str, Value], set_by: str, reason: str
) -> tuple[RiskLimits, RiskLimits]:
    """Add a version with `changes` over the newest one. Returns (the one before, the new one).

    Raises `LimitError` if limits would contradict each other: then nothing is changed, and the refusal is kept.
    """

    def change() -> tuple[RiskLimits, RiskLimits]:
        account = lock_account(account_id)
        before = current_limits(account_id)
        values: dict[str, Value] = {name: getattr(before, name) for name in NAMES} | dict(changes)
        if wrong := contradiction(values):
            raise LimitError(wrong)
        after = RiskLimits.objects.create(
            account=account, version=before.version + 1, set_by=set_by, reason=reason[:200], **values
        )
        account.sequence += 1
        save_account(account)
        return before, after

    return retry_tx(change)


def refuse_limits(*, account: Account, asked: Iterable[str], set_by: str, reason: str, why: str) -> None:
    """Keep that limits were asked for that cannot be: what, by whom, and why they were refused."""
    LimitsRefusal.objects.create(
        account=account, asked=" ".join(asked)[:500], set_by=set_by, reason=reason[:200], why=why[:300]
    )
