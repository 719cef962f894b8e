"""The chain as lines of text: a heading per part, top-down. The page and the command show the same lines."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final

from apps.ops.explain.checks import by_urgency
from apps.ops.explain.parts import (
    Condition,
    DecisionPart,
    Explanation,
    FillPart,
    LedgerPart,
    OrderPart,
    PositionPart,
    SignalPart,
    StrategyPart,
    StreamPart,
    WindowPart,
)
from apps.staff import numbers, times

TRADES_SHOWN: Final = 8
BARS_SHOWN: Final = 5
NONE: Final = "none"
AGE_IN_MS: Final = 10_000
FILL_WORDS: Final = {
    "latency_ms": "latency, ms of event time",
    "reference_price": "price decided on",
    "slippage_bps": "against the price decided on, basis points",
}


@dataclass(frozen=True, slots=True)
class Line:
    """`raw` is the exact value behind what the line shows, for copying; `failed` marks what did not hold."""

    label: str
    text: str
    raw: str = ""
    failed: bool = False


@dataclass(frozen=True, slots=True)
class Section:
    name: str
    title: str
    lines: tuple[Line, ...]


def sections(found: Explanation) -> list[Section]:
    """Every part of the chain, also those that are not there: an absent order is an answer."""
    return [
        Section("trades", "Trades on the stream", tuple(_stream(found.stream, found))),
        Section("window", "Bars and indicators", tuple(_window(found.window, found))),
        Section("strategy", "Strategy", tuple(_strategy(found.strategy))),
        Section("signal", "Signal", tuple(_signal(found))),
        Section("decision", "Decision", tuple(_decision(found.decision, found))),
        Section("checks", "Checks, failed first, then by what was left", tuple(_checks(found.decision))),
        Section("order", "Order", tuple(_order(found.order, found))),
        Section("fills", "Fills", tuple(_fills(found.fills, found))),
        Section("position", "Position and its exits", tuple(_position(found.position, found))),
        Section("ledger", "Ledger", tuple(_ledger(found.ledger))),
        Section("way", "How long it took", tuple(_way(found))),
        *([] if found.proof is None else [Section("proof", "Worked out again", tuple(_proof(found)))]),
    ]


def price(value: Decimal | None, found: Explanation) -> str:
    return numbers.exact(value, decimals=found.signal.price_decimals)


def quantity(value: Decimal | None, found: Explanation) -> str:
    return numbers.exact(value, decimals=found.signal.quantity_decimals)


def _figure(value: float | None, decimals: int = 2) -> str:
    return numbers.UNKNOWN if value is None else numbers.rounded(Decimal(repr(value)), decimals)


def _age(ms: int) -> str:
    return f"{ms} ms" if ms < AGE_IN_MS else times.duration(ms)


def _percent(value: float | None) -> str:
    return numbers.UNKNOWN if value is None else numbers.percent(Decimal(repr(value)), 2, signed=True)


def _stream(part: StreamPart, found: Explanation) -> Iterator[Line]:
    yield Line("entry", f"{part.entry_id} of shard {part.shard}, epoch {part.epoch}", part.entry_id)
    yield Line("found", part.words, failed=not part.found_in)
    trigger = part.trigger
    if trigger is not None:
        words = f"trade {trigger.trade_id}: {trigger.side} {quantity(trigger.quantity, found)} {found.signal.symbol}"
        at = times.full(trigger.ts_event)
        yield Line("the trade", f"{words} at {price(trigger.price, found)}, {at}", numbers.plain(trigger.price))
    others = [trade for trade in part.trades if not trade.is_trigger]
    for trade in others[:TRADES_SHOWN]:
        words = f"{trade.side} {quantity(trade.quantity, found)} at {price(trade.price, found)}"
        yield Line("beside it", f"trade {trade.trade_id}: {words}, {times.full(trade.ts_event)}")
    if len(others) > TRADES_SHOWN:
        yield Line("", f"and {len(others) - TRADES_SHOWN} more")


def _window(part: WindowPart | None, found: Explanation) -> Iterator[Line]:
    if part is None:
        yield Line("", "an exit looks at its position's plan, not at a window" if found.signal.position else NONE)
        return
    first, last = times.minute_text(part.first_minute), times.minute_text(part.last_minute)
    asked = part.last_minute - part.first_minute + 1
    proven = sum(bar.status == "PROVEN" for bar in part.bars)
    yield Line("minutes", f"{first} to {last}: {len(part.bars)} of {asked} bars stored, {proven} of them PROVEN")
    if part.unproven_minutes:
        yield Line("holes", f"{part.unproven_minutes} UNPROVEN: {part.unproven_reason}", failed=True)
    shown = [part.bars[0], *part.bars[-BARS_SHOWN:]] if len(part.bars) > BARS_SHOWN + 1 else list(part.bars)
    for bar in shown:
        volume = f"{bar.count} trades, turnover {numbers.rounded(bar.turnover, 2)}"
        note = "" if bar.status == "PROVEN" else f", {bar.status} ({bar.reason})"
        text = f"close {price(bar.close, found)}, {volume}{note}"
        yield Line(times.minute_text(bar.minute), text, numbers.plain(bar.close))
    for condition in part.conditions:
        yield Line(
            "RSI" if condition.name == "rsi" else condition.name,
            _condition(condition),
            repr(condition.value),
            failed=condition.holds is False,
        )


def _condition(condition: Condition) -> str:
    if condition.name == "change":
        value, limit = _percent(condition.value), numbers.percent(Decimal(repr(condition.limit)), 2)
    else:
        value, limit = _figure(condition.value), _figure(condition.limit)
    return f"{value} ({'must be at least' if condition.comparison == '>=' else 'must be above'} {limit})"


def _strategy(part: StrategyPart | None) -> Iterator[Line]:
    if part is None:
        yield Line("", "its version is gone", failed=True)
        return
    why = f': "{part.reason}"' if part.reason else ""
    yield Line("version", f"{part.name} v{part.version}, made by {part.author} {times.full(part.created_ms)}{why}")
    changed = ", ".join(f"{name} {_or_none(old)} → {_or_none(new)}" for name, (old, new) in part.changes.items())
    yield Line("against the version before", changed or "the first of its strategy, or nothing changed")
    yield Line("parameters", ", ".join(f"{name} {value}" for name, value in sorted(part.parameters.items())))


def _or_none(value: Any) -> str:
    return NONE if value is None else str(value)


def _signal(found: Explanation) -> Iterator[Line]:
    part = found.signal
    reason = part.exit_reason.replace("_", " ")
    what = f"{part.kind} ({reason})" if reason else part.kind
    yield Line("signal", f"{what} {part.symbol} at {price(part.price, found)}, {times.full(part.ts_event)}")
    if part.confirmed is not None:
        yield Line("confirmed price", _confirmed(part, found), numbers.plain(part.confirmed))
    yield Line("session", f"{part.session}, book {part.book}")
    if part.bid is not None and part.ask is not None:
        age = "" if part.quote_ts is None else f", {_age(part.ts_event - part.quote_ts)} old then"
        yield Line("quote", f"bid {price(part.bid, found)}, ask {price(part.ask, found)}{age}")
    if part.median is not None:
        yield Line("median of the last minute", price(part.median, found), numbers.plain(part.median))


def _confirmed(part: SignalPart, found: Explanation) -> str:
    """What the trades up to the trigger confirm, and whether that is what was acted on."""
    confirmed, raw = price(part.confirmed, found), price(part.price, found)
    if part.confirmed == part.price:
        return f"{confirmed}, the trigger's own"
    if part.exit_reason:
        return f"{confirmed}, which the exit was judged by: nothing confirms the last trade's {raw}"
    return f"{confirmed}: the trigger's {raw} is not confirmed by the trades up to it"


def _decision(part: DecisionPart | None, found: Explanation) -> Iterator[Line]:
    if part is None:
        yield Line("", found.ending_words)
        return
    yield Line(part.verdict, part.sentence, failed=part.verdict == "denied")
    yield Line(
        "made", f"{times.full(part.decided_ms)}, number {part.sequence} of the account, state {part.trading_state}"
    )
    if part.state_words:
        yield Line("trading state", f"{part.trading_state} {part.state_words}")
    for trip in part.trips:
        evidence = ", ".join(f"{name} {value}" for name, value in trip.evidence.items())
        about = f"{trip.to_state}{f' for {trip.subject}' if trip.subject else ''} since {times.full(trip.created_ms)}"
        yield Line(f"breaker {trip.cause}", f"{about}: {trip.reason}{f' ({evidence})' if evidence else ''}")
    feed = "unknown" if part.feed_age_ms is None else _age(part.feed_age_ms)
    yield Line("ages", f"feed {feed}, signal {_age(part.signal_age_ms)}")
    before, after = numbers.rounded(part.exposure_before, 2), numbers.rounded(part.exposure_after, 2)
    yield Line("exposure", f"{before} before, {after} after, {part.currency}", numbers.plain(part.exposure_after))
    yield Line("equity", f"{numbers.rounded(part.equity, 2)} {part.currency}", numbers.plain(part.equity))
    marks = ", ".join(f"{symbol} {numbers.exact(value)}" for symbol, value in sorted(part.marks.items()))
    minute = "no minute closed yet" if part.marks_minute is None else times.minute_text(part.marks_minute)
    yield Line("valued at", f"{marks or NONE} ({minute})")
    limits = part.limits
    if limits is None:
        yield Line("limits", "their version is gone", failed=True)
    else:
        words = f'version {limits.version} by {limits.set_by} {times.full(limits.created_ms)}: "{limits.reason}"'
        yield Line("limits", words)


def _checks(part: DecisionPart | None) -> Iterator[Line]:
    if part is None:
        yield Line("", NONE)
        return
    for check in by_urgency(part.checks):
        said = not check.passed and bool(check.margin) and check.note.endswith("would pass")  # by the margin
        words = "; ".join(text for text in (check.margin, "" if said else check.note) if text)
        mark = "✓" if check.passed else "✗"
        yield Line(f"{mark} {check.words}", words or "passed", check.value or "", failed=not check.passed)


def _order(part: OrderPart | None, found: Explanation) -> Iterator[Line]:
    if part is None:
        yield Line("", NONE)
        return
    words = f"{part.side} {quantity(part.quantity, found)} {found.signal.symbol} at {price(part.limit_price, found)}"
    yield Line("order", f"{words} or better{', reducing' if part.reducing else ''}", part.client_order_id)
    yield Line("id", part.client_order_id + (f", {part.venue} {part.venue_order_id}" if part.venue else ", not sent"))
    if part.status:
        left = f"filled {quantity(part.filled, found)}, left {quantity(part.leaves, found)}"
        yield Line("status", f"{part.status}{f' ({part.reason})' if part.reason else ''}: {left}")
    if part.promised is not None:
        yield Line("still promised", f"{numbers.exact(part.promised)} {part.promised_currency}")
    for words in part.anomalies:
        yield Line("reported, and cannot be", words, failed=True)
    for event in part.events:
        after = "" if event.after_ms is None else f", {event.after_ms} ms later"
        detail = f" ({event.detail})" if event.detail else ""
        yield Line(f"{event.number} {event.event}", f"{event.status}, {times.full(event.at_ms)}{after}{detail}")


def _fills(parts: Iterable[FillPart], found: Explanation) -> Iterator[Line]:
    fill = None
    for fill in parts:
        words = (
            f"{fill.side} {quantity(fill.quantity, found)} at {price(fill.price, found)}, {times.full(fill.ts_event)}"
        )
        yield Line(f"{fill.venue} {fill.trade_id}", words, numbers.plain(fill.price))
        if fill.quote is not None:
            yield Line("quote in force", _quote(fill.quote))
        if fill.slippage_bps is not None:
            yield Line("against that quote", f"{numbers.exact(fill.slippage_bps, signed=True)} basis points")
        yield Line("fee", f"{numbers.exact(fill.fee)} {fill.fee_currency}", numbers.plain(fill.fee))
        for name, value in fill.more.items():
            text = numbers.exact(value) if isinstance(value, Decimal) else str(value)
            yield Line(FILL_WORDS.get(name, name.replace("_", " ")), text, text)
    if fill is None:
        yield Line("", NONE)


def _quote(quote: dict[str, Any]) -> str:
    sizes = f"bid {quote['bid']} for {quote['bid_quantity']}, ask {quote['ask']} for {quote['ask_quantity']}"
    return f"{sizes}, since {times.full(int(quote['ts_event']))}"


def _position(part: PositionPart | None, found: Explanation) -> Iterator[Line]:
    if part is None:
        yield Line("", NONE)
        return
    yield Line(
        "position",
        f"number {part.id}, {part.status}, holds {quantity(part.quantity, found)}, opened by {part.opened_by}",
    )
    bought = f"{quantity(part.entry_quantity, found)} at {price(part.entry_price, found)}"
    yield Line("entry", f"{bought}, {times.full(part.opened_ts)}", numbers.plain(part.entry_price))
    target = price(part.target_price, found) if part.target_price else NONE
    yield Line(
        "plan", f"stop {price(part.stop_price, found)}, target {target}, at most until {times.full(part.due_ts)}"
    )
    for leaving in part.exits:
        at = f"{price(leaving.price, found)}, {times.full(leaving.ts_event)}"
        yield Line(f"exit signal:{leaving.signal}", f"{leaving.reason.replace('_', ' ')} at {at}: {leaving.words}")
    result = numbers.exact(part.realized, decimals=2, signed=True)
    yield Line("result", f"{result} before fees of {numbers.exact(part.fees, decimals=2)} {found.signal.currency}")


def _ledger(part: LedgerPart | None) -> Iterator[Line]:
    if part is None:
        yield Line("", NONE)
        return
    for leg in part.legs:
        text = f"{numbers.exact(leg.amount, signed=True)} {leg.currency}"
        yield Line(f"{leg.reference} {leg.kind}", text, numbers.plain(leg.amount))
    for reference, currency, amount in part.sums:
        yield Line(f"sum of {reference}", f"{numbers.exact(amount)} {currency}", failed=bool(amount))
    yield Line("cash moved by", numbers.exact(part.cash, signed=True), numbers.plain(part.cash))


def _way(found: Explanation) -> Iterator[Line]:
    for moment in found.way:
        after = "" if moment.after_ms is None else f", {moment.after_ms} ms later"
        yield Line(moment.name, f"{times.full(moment.at_ms)}{after}", str(moment.at_ms))


def _proof(found: Explanation) -> Iterator[Line]:
    rows = found.proof or ()
    equal = sum(row.equal for row in rows)
    yield Line("numbers", f"{equal} of {len(rows)} came out as they are stored", failed=equal < len(rows) or not rows)
    for row in rows:
        if row.equal:
            yield Line(f"= {row.name}", row.stored, row.stored)
        else:
            yield Line(f"≠ {row.name}", f"stored: {row.stored}; worked out again: {row.again}", row.stored, failed=True)
    for words in found.unproven:
        yield Line("not worked out again", words)
