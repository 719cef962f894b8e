"""What `manage.py risk show` says: state, limits and how much of each is used. Plain values, also for --json."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from apps.engine.desk.book import MarkSet
from apps.engine.desk.deciding import free_cash
from apps.engine.money import total
from apps.engine.risk.values import fraction_of
from apps.engine.risk.words import plain
from apps.portfolio.models import Account
from apps.portfolio.selectors import read_book
from apps.risk.models import BreakerTrip, RiskState, ScopedState, TripCause
from apps.risk.scopes import open_trips, scoped_states
from apps.risk.selectors import current_limits, limits_of
from apps.risk.services.limits import NAMES, limit_text
from apps.risk.services.ways_back import WAYS_BACK


def risk_report(account: Account) -> dict[str, Any]:
    """Everything as of one moment; money as exact strings in the account's currency."""
    state, version, book = RiskState.objects.get(account=account), current_limits(account.pk), read_book(account.pk)
    limits, marks = limits_of(version), MarkSet.from_json(state.marks)
    value, unvalued = book.worth(marks.prices)
    equity = total([account.cash, value])
    return {
        "session": account.session.name,
        "account": account.pk,
        "currency": account.currency,
        "trading_state": state.trading_state,
        "state_since": state.state_since.isoformat(),
        "state_set_by": state.state_set_by,
        "state_reason": state.state_reason,
        "scopes": [_scoped(row) for row in scoped_states(account.pk)],
        "trips": [_trip(row) for row in open_trips(account.pk)],
        "equity": plain(equity),
        "cash": plain(account.cash),
        "free_cash": plain(free_cash(account.cash, book.reserved(account.currency))),
        "exposure": plain(state.exposure),
        "exposure_limit": plain(fraction_of(limits.exposure_max, equity)),
        "day": None if state.day is None else state.day.isoformat(),
        "day_start_equity": _text(state.day_start_equity),
        "peak_equity": _text(state.peak_equity),
        "open_positions": len(book.positions),
        "open_orders": len(book.reservations),
        "unvalued_symbols": list(unvalued),
        "marks_minute": marks.minute,
        "limits_version": version.version,
        "limits_set_by": version.set_by,
        "limits_reason": version.reason,
        "limits": {name: limit_text(version, name) for name in NAMES},
    }


def _scoped(row: ScopedState) -> dict[str, Any]:
    return {
        "scope": row.scope,
        "subject": row.subject,
        "trading_state": row.trading_state,
        "words": f"since {row.state_since:%H:%M} by {row.state_set_by}: {row.state_reason}",
    }


def _trip(row: BreakerTrip) -> dict[str, Any]:
    return {
        "cause": row.cause,
        "scope": row.scope,
        "subject": row.subject,
        "to_state": row.to_state,
        "reason": row.reason,
        "evidence": row.evidence,
        "at": row.created_at.isoformat(),
        "way_back": WAYS_BACK[TripCause(row.cause)].words,
    }


def _text(amount: Decimal | None) -> str | None:
    return None if amount is None else plain(amount)
