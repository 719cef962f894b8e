"""A session's figures as lines for a person."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any

from apps.staff import numbers, times


def lines_of(figures: Mapping[str, Any], *, frozen: bool) -> Iterator[str]:
    """What `session report` prints. `frozen`: the session has ended and these figures stay."""
    yield f"{figures['name']} (session {figures['session']}, {figures['mode']}, {figures['tier']}, {figures['market']})"
    yield f"  {_span(figures)}"
    if not frozen:
        yield "  it still runs: these figures are of now and will change"
    for label, words in _rows(figures):
        yield f"  {label:<16} {words}"


def _span(figures: Mapping[str, Any]) -> str:
    lasted = times.duration(figures["minutes"] * times.MINUTE_MS)
    if figures["ended_at"] is None:
        due = f", ends by itself after {_at(figures['ends_at'])}" if figures["ends_at"] else ""
        return f"since {_at(figures['started_at'])} ({lasted}){due}"
    words = f"{_at(figures['started_at'])} to {_at(figures['ended_at'])} ({lasted})"
    return f"{words}, ended by {figures['ended_by']}: {figures['end_reason']}"


def _rows(figures: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    yield "feed", f"up {_percent(figures['uptime'])}, proven {_percent(figures['coverage'].get('proven_share'))}"
    yield "signals", f"{figures['signals']}: {figures['approved']} approved, {figures['denied']} denied"
    if figures["denied_by_reason"]:
        yield "denied for", _counts(figures["denied_by_reason"])
    if figures["orders_by_status"]:
        yield "orders", _counts(figures["orders_by_status"])
    if "currency" not in figures:
        yield "money", "there is no account"
        return
    currency = figures["currency"]
    yield "trades", f"{figures['trades']}, {figures['round_trips']} round trips, {figures['won']} won"
    yield "win rate", _percent(figures["win_rate"])
    yield "profit factor", _ratio(figures["profit_factor"])
    yield "net result", f"{_money(figures['net'], signed=True)} {currency} of closed round trips"
    yield "realised", f"{_money(figures['realized'], signed=True)} {currency} before fees"
    yield "unrealised", f"{_money(figures['unrealized'], signed=True)} {currency}, {figures['open_positions']} open"
    yield "fees", f"{_money(figures['fees'])} {currency} ({_amounts(figures['fees_by_currency'])})"
    if figures["fees_unvalued"]:
        yield "not valued", f"fees of {_amounts(figures['fees_unvalued'])}: no price is known"
    yield "cash", f"{_money(figures['cash'])} {currency}"
    yield "equity", f"{_money(figures['equity'])} {currency}, {_percent(figures['total_return'], signed=True)}"
    yield "drawdown", f"{_percent(figures['max_drawdown'])}, {_money(figures['max_drawdown_amount'])} {currency}"
    if figures["corrections"]:
        yield "corrections", str(figures["corrections"])


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name or 'no reason'} {number}" for name, number in counts.items())


def _amounts(amounts: Mapping[str, str]) -> str:
    return ", ".join(f"{_money(amount)} {currency}" for currency, amount in amounts.items()) or "none"


def _money(text: str | None, *, signed: bool = False) -> str:
    return numbers.rounded(None if text is None else Decimal(text), 2, signed=signed)


def _percent(share: float | None, *, signed: bool = False) -> str:
    return numbers.percent(None if share is None else Decimal(repr(share)), 2, signed=signed)


def _ratio(value: float | None) -> str:
    return numbers.rounded(None if value is None else Decimal(repr(value)), 2)


def _at(iso: str) -> str:
    return f"{iso[:16].replace('T', ' ')} UTC"
