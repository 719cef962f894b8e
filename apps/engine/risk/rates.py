"""Checks of how many orders there are and how fast they follow each other. All times are event times."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

from apps.engine.risk.amounts import too_many
from apps.engine.risk.values import Intent, Limits, Outcome, Reason, TradingState, Verdict, View, share_left
from apps.engine.risk.words import number, seconds


def open_orders(intent: Intent, view: View, limits: Limits) -> Verdict:
    """Opening: few orders at work, per symbol and in all. Reducing: never denied."""
    by_symbol = (f"open orders in {intent.symbol}", view.open_orders_symbol + 1, limits.open_orders_symbol_max)
    in_all = ("open orders", view.open_orders + 1, limits.open_orders_max)
    left = None if intent.reducing else share_left(Decimal(in_all[1]), Decimal(in_all[2]))
    for words, count, limit in (by_symbol, in_all):
        if count > limit and not intent.reducing:
            return too_many(Reason.OPEN_ORDERS, words, count, limit)
    return Verdict(Reason.OPEN_ORDERS, Outcome.PASSED, Decimal(in_all[1]), Decimal(in_all[2]), left=left)


def throttle(intent: Intent, view: View, limits: Limits) -> Verdict:
    """Opening: orders per second, minute and day. Reducing: a bucket of their own that only alerts."""
    if intent.reducing:
        count, limit = view.exits_second + 1, limits.exits_per_second_max
        note = f"{count} exits within one second, expected are at most {limit}" if count > limit else ""
        return Verdict(
            Reason.THROTTLE, Outcome.PASSED, Decimal(count), Decimal(limit), note, alert=count > limit
        )  # fmt: skip
    rates = (
        ("orders within one second", view.orders_second + 1, limits.orders_per_second_max),
        ("orders within one minute", view.orders_minute + 1, limits.orders_per_minute_max),
        ("orders of the day", view.orders_day + 1, limits.orders_per_day_max),
    )
    words, count, limit = min(rates, key=lambda rate: share_left(Decimal(rate[1]), Decimal(rate[2])))
    if count > limit:
        return too_many(Reason.THROTTLE, words, count, limit)
    left = share_left(Decimal(count), Decimal(limit))
    return Verdict(Reason.THROTTLE, Outcome.PASSED, Decimal(count), Decimal(limit), words, left=left)


def self_trade(intent: Intent, view: View, limits: Limits) -> Verdict:  # noqa: ARG001
    """Opening: no order of ours is at work on the other side. Reducing: replaces it."""
    count = Decimal(view.opposite_orders)
    if not view.opposite_orders:
        return Verdict(Reason.SELF_TRADE, Outcome.PASSED, count, Decimal(0))
    if intent.reducing:
        note = f"an opening order of ours in {intent.symbol} is still at work: this one replaces it"
        return Verdict(Reason.SELF_TRADE, Outcome.PASSED, count, Decimal(0), note, alert=True)
    note = f"an order of ours on the other side of {intent.symbol} is still at work"
    return Verdict(Reason.SELF_TRADE, Outcome.FAILED, count, Decimal(0), note)


def repeat(intent: Intent, view: View, limits: Limits) -> Verdict:
    """Opening: not the same symbol and side again and again; else the symbol is REDUCING. Reducing: never denied."""
    if intent.reducing:
        return Verdict(Reason.REPEAT, Outcome.PASSED)
    count, limit = view.repeats + 1, limits.repeat_max
    if count <= limit:
        left = share_left(Decimal(count), Decimal(limit))
        return Verdict(Reason.REPEAT, Outcome.PASSED, Decimal(count), Decimal(limit), left=left)
    words = f"orders to {intent.side} {intent.symbol} within {seconds(limits.repeat_window_ms)}"
    return replace(too_many(Reason.REPEAT, words, count, limit), trip=TradingState.REDUCING)


def duplicate(intent: Intent, view: View, limits: Limits) -> Verdict:
    """Opening: no equal order next to it in event time. Reducing: one open exit per position."""
    if intent.reducing:
        return _second_exit(intent, view)
    limit = Decimal(limits.duplicate_ms)
    if view.twin_ms is None or view.twin_ms > limits.duplicate_ms:
        return Verdict(Reason.DUPLICATE, Outcome.PASSED, None, limit)
    order = f"{intent.side} {number(intent.quantity)} {intent.symbol}"
    note = f"an equal order ({order}) was approved {seconds(view.twin_ms)} away (limit {seconds(limits.duplicate_ms)})"
    return Verdict(Reason.DUPLICATE, Outcome.FAILED, Decimal(view.twin_ms), limit, note)


def _second_exit(intent: Intent, view: View) -> Verdict:
    exits = Decimal(view.open_exits)
    if view.open_exits:
        return Verdict(Reason.DUPLICATE, Outcome.FAILED, exits, Decimal(0), "an exit of this position is open already")
    if intent.quantity <= 0:
        return Verdict(Reason.DUPLICATE, Outcome.FAILED, exits, Decimal(0), "the position is closed already")
    return Verdict(Reason.DUPLICATE, Outcome.PASSED, exits, Decimal(0))
