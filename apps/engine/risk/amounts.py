"""Checks of price and size. None of them ever denies an order that reduces."""

from __future__ import annotations

from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from typing import Final

from apps.engine.money import ONE, ZERO, exact, notional
from apps.engine.risk.values import Intent, Limits, Outcome, Reason, Verdict, View, fraction_of, share_left
from apps.engine.risk.words import CHECK_NAMES, cents_down, cents_up, number, percent_up, six_digits

CENT: Final = Decimal("0.01")


@exact
def at_most(
    reason: Reason, value: Decimal, limit: Decimal, *, currency: str, order: Decimal, reducing: bool, note: str = ""
) -> Verdict:
    """The verdict on an amount of money with an upper limit. `order` is what this order adds to `value`."""
    if value <= limit or reducing:
        return Verdict(reason, Outcome.PASSED, value, limit, note, left=None if reducing else share_left(value, limit))
    over = (value - limit).quantize(CENT, rounding=ROUND_CEILING)  # what is left of the order must be something
    way_out = f"{cents_up(over)} {currency} less would pass" if over < order else "No order would pass"
    words = f"{CHECK_NAMES[reason]} would be {cents_up(value)} of {cents_down(limit)} {currency}. {way_out}"
    return Verdict(reason, Outcome.FAILED, value, limit, words)


def too_many(reason: Reason, words: str, count: int, limit: int) -> Verdict:
    """A count that is over its limit."""
    note = f"{words} would be {count} of {limit}. {count - limit} less would pass"
    return Verdict(reason, Outcome.FAILED, Decimal(count), Decimal(limit), note)


@exact
def distance(price: Decimal, low: Decimal, high: Decimal) -> Decimal:
    """How far `price` lies outside the range, as a fraction of the nearer end; 0 inside it."""
    if price > high:
        return price / high - ONE
    return ONE - price / low if price < low else ZERO


def price_collar(intent: Intent, view: View, limits: Limits) -> Verdict:
    """Opening: the price is close to the quote and to the last minute's median. Reducing: sent, and alerted."""
    if intent.reducing:
        return _exit_band(intent, view, limits)
    if view.bid is None or view.ask is None:
        return Verdict(
            Reason.PRICE_COLLAR, Outcome.FAILED, None, limits.collar, f"no quote of {intent.symbol} is known"
        )
    if view.median is None:
        note = f"no trade of {intent.symbol} is known from the last minute"
        return Verdict(Reason.PRICE_COLLAR, Outcome.FAILED, None, limits.collar, note)
    from_quote = distance(intent.price, view.bid, view.ask)
    from_median = distance(intent.price, view.median, view.median)
    far, what = max((from_quote, "the quote"), (from_median, "the last minute's median"))
    if far <= limits.collar:
        left = share_left(far, limits.collar)
        return Verdict(Reason.PRICE_COLLAR, Outcome.PASSED, far, limits.collar, left=left)
    way_out = _nearest(intent.price, max(view.bid, view.median), min(view.ask, view.median), limits.collar)
    note = f"the price's distance from {what} would be {percent_up(far)} of {percent_up(limits.collar)}. {way_out}"
    return Verdict(Reason.PRICE_COLLAR, Outcome.FAILED, far, limits.collar, note)


@exact
def _nearest(price: Decimal, low: Decimal, high: Decimal, collar: Decimal) -> str:
    """The price nearest to `price` that both collars allow, in words."""
    lowest, highest = low * (ONE - collar), high * (ONE + collar)
    if lowest > highest:
        return "No price would pass: quote and median are too far apart"
    if price > highest:
        return f"A price of at most {six_digits(highest, ROUND_FLOOR)} would pass"
    return f"A price of at least {six_digits(lowest, ROUND_CEILING)} would pass"


def _exit_band(intent: Intent, view: View, limits: Limits) -> Verdict:
    if view.bid is None:
        note = f"no quote of {intent.symbol} is known: the limit was set from the triggering trade"
        return Verdict(Reason.PRICE_COLLAR, Outcome.PASSED, None, limits.exit_band, note, alert=True)
    far = distance(intent.price, view.bid, view.bid)
    outside = far > limits.exit_band
    note = f"the exit's price is {percent_up(far)} away from the bid" if outside else ""
    return Verdict(Reason.PRICE_COLLAR, Outcome.PASSED, far, limits.exit_band, note, alert=outside)


def bad_tick(intent: Intent, view: View, limits: Limits) -> Verdict:
    """Opening: the triggering price is no jump that nothing confirms. Reducing: sent, and alerted if it is one."""
    limit = limits.bad_tick
    if view.confirmed is None:
        if intent.reducing:
            return Verdict(Reason.BAD_TICK, Outcome.PASSED, None, limit)
        return Verdict(Reason.BAD_TICK, Outcome.FAILED, None, limit, f"no price of {intent.symbol} is confirmed")
    far = distance(intent.price, view.confirmed, view.confirmed)
    if far <= limit:
        return Verdict(Reason.BAD_TICK, Outcome.PASSED, far, limit)
    note = (
        f"the price {number(intent.price)} is {percent_up(far)} away from the confirmed {number(view.confirmed)} "
        f"(limit {percent_up(limit)})"
    )
    outcome = Outcome.PASSED if intent.reducing else Outcome.FAILED
    return Verdict(Reason.BAD_TICK, outcome, far, limit, note, alert=intent.reducing)


def fat_finger(intent: Intent, view: View, limits: Limits) -> Verdict:
    """Opening: at its limit price a small part of equity, and within the hard cap. Reducing: never denied."""
    limit = fraction_of(limits.order_notional_max, view.equity)
    if view.order_cap is not None:
        limit = min(limit, view.order_cap)
    value = intent.worst_notional
    return at_most(
        Reason.FAT_FINGER, value, limit, currency=view.currency, order=value, reducing=intent.reducing
    )  # fmt: skip


def min_notional(intent: Intent, view: View, limits: Limits) -> Verdict:  # noqa: ARG001
    """Opening: at least what the exchange takes. Reducing: a remainder is sent as it is."""
    value = notional(intent.quantity, intent.price)
    enough = intent.quantity > 0 and intent.quantity >= view.quantity_min and value >= view.notional_min
    if enough or intent.reducing:
        note = "" if enough else "below the exchange's minimum"
        return Verdict(
            Reason.MIN_NOTIONAL, Outcome.PASSED, value, view.notional_min, note, alert=not enough, floor=True
        )  # fmt: skip
    if view.size_words:
        note = f"{intent.symbol} has no size: {view.size_words}"
    elif value < view.notional_min:
        smallest = f"{number(view.notional_min)} {view.currency}"
        note = f"{cents_down(value)} {view.currency} is below the exchange's minimum of {smallest} for {intent.symbol}"
    else:
        smallest = f"{number(view.quantity_min)} {intent.symbol}"
        note = f"a quantity of {number(intent.quantity)} is below the exchange's minimum of {smallest}"
    return Verdict(Reason.MIN_NOTIONAL, Outcome.FAILED, value, view.notional_min, note, floor=True)


def _unvalued(reason: Reason, view: View, limit: Decimal) -> Verdict:
    note = f"{CHECK_NAMES[reason]} is unknown: no price of {', '.join(view.unvalued)} is known"
    return Verdict(reason, Outcome.FAILED, None, limit, note)


@exact
def position_limit(intent: Intent, view: View, limits: Limits) -> Verdict:
    """Opening: positions and open orders of the symbol, with this one, are few and a small part of equity."""
    limit, order = fraction_of(limits.position_max, view.equity), intent.worst_notional
    count = view.positions_symbol + 1
    if count > limits.positions_per_symbol_max and not intent.reducing:
        return too_many(Reason.POSITION_LIMIT, f"positions in {intent.symbol}", count, limits.positions_per_symbol_max)
    if intent.symbol in view.unvalued and not intent.reducing:
        return _unvalued(Reason.POSITION_LIMIT, view, limit)
    value = view.symbol_exposure + order
    return at_most(
        Reason.POSITION_LIMIT, value, limit, currency=view.currency, order=order, reducing=intent.reducing
    )  # fmt: skip


@exact
def exposure(intent: Intent, view: View, limits: Limits) -> Verdict:
    """Opening: all positions and open orders, with this one, stay within the gross limit."""
    limit, order = fraction_of(limits.exposure_max, view.equity), intent.worst_notional
    if view.unvalued and not intent.reducing:
        return _unvalued(Reason.EXPOSURE, view, limit)
    value = view.exposure + order
    return at_most(
        Reason.EXPOSURE, value, limit, currency=view.currency, order=order, reducing=intent.reducing
    )  # fmt: skip


def cash(intent: Intent, view: View, limits: Limits) -> Verdict:  # noqa: ARG001
    """Opening: the worst price and its fee are covered by free cash. Reducing: not needed."""
    if intent.reducing:
        return Verdict(Reason.CASH, Outcome.PASSED)
    return at_most(
        Reason.CASH, view.needed_cash, max(view.free_cash, ZERO),
        currency=view.currency, order=view.needed_cash, reducing=False,
    )  # fmt: skip
