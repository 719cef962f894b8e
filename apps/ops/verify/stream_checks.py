"""I1, I2 and I3: the cursor, the trades, and what was derived from them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from apps.bus import streams
from apps.engine.bars import trade_hash
from apps.engine.bars_longer import LENGTHS, Span, longer
from apps.engine.model import MINUTE_MS
from apps.engine.money import exact
from apps.engine.recording import Recording
from apps.market.models import Bar, Coverage, DeadEntry, LongerBar
from apps.market.services.bars import bar_row, changed, to_signed
from apps.market.services.ledger import REASON_MAX
from apps.market.services.longer_bars import LONGER_FIELDS, longer_row, minute_span
from apps.ops.verify.derived import HASH_MODULUS, DerivedShard, MinuteSum
from apps.ops.verify.result import Check
from apps.portfolio.models import TradingSession
from apps.signals.models import EngineState, Signal, SignalRefusal, StrategyCall
from apps.signals.services.raising import REFUSAL_FIELDS, call_rows, entry_rows, refusal_of
from apps.signals.services.state import pack_market

BAR_FIELDS = (
    "open", "high", "low", "close", "volume", "turnover", "count",
    "first_trade_id", "last_trade_id", "hash_sum", "source", "revision",
)  # fmt: skip
SIGNAL_FIELDS = (
    "ts_event", "trade_id", "price", "change", "rsi", "turnover", "bid", "bid_quantity", "ask", "ask_quantity",
    "quote_ts", "median_price",
)  # fmt: skip


def check_cursors(shards: list[DerivedShard]) -> Check:
    """I1: the cursor stands where the stored state stands, and every entry up to it was read or set aside."""
    check = Check("I1", "cursors stand where their state stands; every entry up to them was processed or set aside")
    for shard in shards:
        cursor = shard.cursor
        name = f"shard {cursor.shard}"
        check.compared += shard.entries
        check.expect(
            shard.entries == cursor.replay_entries,
            f"{name}: {shard.entries} entries up to {cursor.replay_from}, the cursor counted {cursor.replay_entries}",
        )
        check.expect(
            streams.entry_order(cursor.replay_from) <= streams.entry_order(cursor.seen_through),
            f"{name}: replay_from {cursor.replay_from} is ahead of seen_through {cursor.seen_through}",
        )
        for position in EngineState.objects.filter(cursor=cursor).values_list("position", flat=True).distinct():
            check.expect(
                position == cursor.replay_from,
                f"{name}: the state was stored at {position}, the cursor stands at {cursor.replay_from}",
            )
        stored = DeadEntry.objects.filter(epoch_id=cursor.epoch_id, shard=cursor.shard)
        aside = set(stored.values_list("entry_id", flat=True))
        missing = shard.dead - aside
        check.expect(not missing, f"{name}: unreadable entries were not set aside: {sorted(missing)[:3]}")
    return check


def _minutes_of(recording: Recording) -> dict[tuple[str, int], MinuteSum]:
    sums: dict[tuple[str, int], MinuteSum] = {}
    for row in recording.rows():
        entry = sums.setdefault((row.symbol, row.time_ms // MINUTE_MS), MinuteSum())
        hashed = trade_hash(row.time_ms, row.trade_id, row.side, row.price_ticks, row.quantity_steps)
        entry.count += 1
        entry.hash_sum = (entry.hash_sum + hashed) % HASH_MODULUS
    return sums


def check_trades(shards: list[DerivedShard], recording: Recording | None) -> Check:
    """I2: per PROVEN minute the bar's count and hash sum are those of the file's trades (else of the segments')."""
    source = "the recording" if recording is not None else "the raw segments"
    check = Check("I2", f"PROVEN minutes hold the trades of {source}, each once; no trade id twice")
    expected = _minutes_of(recording) if recording is not None else None
    for shard in shards:
        sums = expected if expected is not None else shard.minutes
        for symbol, instrument in shard.instruments.items():
            _check_minutes(check, shard, symbol, instrument.pk, sums)
        doubled = [key for key, count in shard.trade_ids.items() if count > 1]
        check.compared += len(shard.trade_ids)
        check.expect(not doubled, f"shard {shard.cursor.shard}: trade ids twice: {doubled[:3]}")
    return check


def _check_minutes(
    check: Check, shard: DerivedShard, symbol: str, instrument_id: int, sums: dict[tuple[str, int], MinuteSum]
) -> None:
    rows = Bar.objects.filter(epoch_id=shard.cursor.epoch_id, instrument_id=instrument_id)
    bars = {row.minute: row for row in rows if row.source == Bar.Source.TRADES}
    if not bars:
        return
    unproven = set(
        Coverage.objects.filter(epoch_id=shard.cursor.epoch_id, instrument_id=instrument_id).values_list(
            "minute", flat=True
        )
    )
    for minute in range(min(bars), max(bars) + 1):
        if minute in unproven:
            continue
        bar, wanted = bars.get(minute), sums.get((symbol, minute), MinuteSum())
        if bar is None:
            check.expect(False, f"{symbol} minute {minute}: there is no bar, the source has {wanted.count} trades")
            continue
        others = " others" if bar.count == wanted.count else ""
        check.expect(
            (bar.count, bar.hash_sum) == (wanted.count, to_signed(wanted.hash_sum)),
            f"{symbol} minute {minute}: the bar holds {bar.count} trades, the source {wanted.count}{others}",
        )


def check_derivation(shards: list[DerivedShard], session: TradingSession) -> Check:
    """I3: bars of all lengths, coverage, state and entry signals derived again equal the stored ones."""
    check = Check("I3", "bars, coverage, state and signals derived again from the segments equal the stored ones")
    for shard in shards:
        _compare_longer_bars(check, shard, _compare_bars(check, shard))
        _compare_coverage(check, shard)
        _compare_state(check, shard)
        _compare_signals(check, shard, session)
    return check


def _compare_bars(check: Check, shard: DerivedShard) -> dict[tuple[str, int], Bar]:
    """Returns the derived rows."""
    derived = {
        (symbol, minute): bar_row(shard.cursor.epoch_id, shard.instruments[symbol], bar)
        for (symbol, minute), bar in shard.bars.items()
    }
    for change in shard.changes:
        key = (change.symbol, change.minute)
        derived[key] = changed(derived.get(key), shard.cursor.epoch_id, shard.instruments[change.symbol], change)
    stored = {
        (row.instrument.symbol, row.minute): row
        for row in Bar.objects.filter(
            epoch_id=shard.cursor.epoch_id, instrument__in=[row.pk for row in shard.instruments.values()]
        ).select_related("instrument")
    }
    for key in sorted(derived.keys() | stored.keys()):
        _compare_rows(check, f"bar {key[0]} minute {key[1]}", derived.get(key), stored.get(key), BAR_FIELDS)
    return derived


@exact
def _compare_longer_bars(check: Check, shard: DerivedShard, minutes: Mapping[tuple[str, int], Bar]) -> None:
    """Longer bars straight from the derived minutes; stored ones were put together from the next shorter ones."""
    spans: dict[str, dict[int, Span[Any]]] = {}
    for (symbol, minute), row in minutes.items():
        status = shard.coverage.get((symbol, minute), (None, ""))[0]
        spans.setdefault(symbol, {})[minute] = minute_span(row, status)
    derived = {
        (symbol, length, span.minute): longer_row(shard.cursor.epoch_id, shard.instruments[symbol].pk, length, span)
        for symbol, own in spans.items()
        for length in LENGTHS
        for span in longer(own, part=1, length=length).values()
    }
    of_shard = [row.pk for row in shard.instruments.values()]
    rows = LongerBar.objects.filter(epoch_id=shard.cursor.epoch_id, instrument__in=of_shard)
    stored = {(row.instrument.symbol, row.length, row.minute): row for row in rows.select_related("instrument")}
    for key in sorted(derived.keys() | stored.keys()):
        name = f"bar of {key[1]} minutes {key[0]} minute {key[2]}"
        _compare_rows(check, name, derived.get(key), stored.get(key), LONGER_FIELDS)


def _compare_rows(check: Check, name: str, derived: object, stored: object, names: Iterable[str]) -> None:
    if derived is None or stored is None:
        check.expect(False, f"{name} is {'stored but cannot be derived' if derived is None else 'missing'}")
        return
    differing = [field for field in names if getattr(derived, field) != getattr(stored, field)]
    shown = ", ".join(f"{field} {getattr(stored, field)} for {getattr(derived, field)}" for field in differing[:2])
    check.expect(not differing, f"{name} differs: {shown}")


def _compare_coverage(check: Check, shard: DerivedShard) -> None:
    stored = {
        (row.instrument.symbol, row.minute): row
        for row in Coverage.objects.filter(
            epoch_id=shard.cursor.epoch_id, instrument__in=[row.pk for row in shard.instruments.values()]
        ).select_related("instrument")
    }
    for key in sorted(shard.coverage.keys() | stored.keys()):
        row, wanted = stored.get(key), shard.coverage.get(key)
        found = None if row is None else (row.status, row.reason)
        check.expect(
            found == (wanted and (wanted[0], wanted[1][:REASON_MAX])),
            f"coverage {key[0]} minute {key[1]}: stored {_status(found)}, derived {_status(wanted)}",
        )


def _status(found: tuple[str, str] | None) -> str:
    return "PROVEN" if found is None else f"{found[0]} ({found[1]})"


def _compare_state(check: Check, shard: DerivedShard) -> None:
    rows = EngineState.objects.filter(cursor=shard.cursor).select_related("instrument")
    for row in rows:
        symbol = shard.engine.symbols.get(row.instrument.symbol)
        if symbol is None:
            continue
        if row.strategy_version_id is None:
            derived = pack_market(shard.engine, row.instrument.symbol)
        else:
            numbers = [n for n, spec in enumerate(shard.engine.specs) if spec.version_id == row.strategy_version_id]
            if not numbers:
                continue
            derived = symbol.strategies[numbers[0]].tobytes()
        check.expect(bytes(row.blob) == derived, f"state of {row.instrument.symbol} differs from the derived one")


def _compare_signals(check: Check, shard: DerivedShard, session: TradingSession) -> None:
    last = streams.entry_order(shard.cursor.replay_from)
    derived = {
        row.trigger_key: row
        for raised in shard.signals
        for row in entry_rows(raised, shard.instruments[raised.symbol], shard.bindings)
    }
    of_shard = {"session": session, "instrument__in": [row.pk for row in shard.instruments.values()]}
    stored = {
        row.trigger_key: row
        for row in Signal.objects.filter(kind=Signal.Kind.ENTRY, **of_shard)
        if streams.entry_order(row.entry_id) <= last
    }
    refused = {
        row.trigger_key: row
        for row in SignalRefusal.objects.filter(**of_shard)
        if streams.entry_order(row.entry_id) <= last
    }
    raised = {key: row for key, row in derived.items() if not row.unproven_minutes}
    for key in sorted(raised.keys() | stored.keys()):
        _compare_rows(check, f"signal {key}", raised.get(key), stored.get(key), SIGNAL_FIELDS)
    _compare_calls(check, shard, last)
    over_holes = {key: refusal_of(row) for key, row in derived.items() if row.unproven_minutes}
    for key in sorted(over_holes.keys() | refused.keys()):
        _compare_rows(check, f"refused signal {key}", over_holes.get(key), refused.get(key), REFUSAL_FIELDS)


def _compare_calls(check: Check, shard: DerivedShard, last: tuple[int, int]) -> None:
    """The exit signals of strategies, with or without a position that they closed."""
    derived = {call_key(row): row for row in call_rows(shard.cursor.epoch_id, shard.instruments, shard.signals)}
    of_shard = [row.pk for row in shard.instruments.values()]
    rows = StrategyCall.objects.filter(epoch_id=shard.cursor.epoch_id, instrument__in=of_shard)
    stored = {call_key(row): row for row in rows if streams.entry_order(row.entry_id) <= last}
    for key in sorted(derived.keys() | stored.keys()):
        _compare_rows(check, f"exit signal {key}", derived.get(key), stored.get(key), ("strategy_version_id", "price"))


def call_key(row: StrategyCall) -> tuple[int, int, int, str]:
    return row.base_id, row.instrument_id, row.ts_event, row.trade_id
