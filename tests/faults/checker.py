"""The judge of a run: what the system claims to know, against what the exchange says it did.

    PROVEN      the minute's bar equals the exchange's trades as a multiset, and so does what counts on the stream
    BACKFILLED  volume, turnover, open, high, low, close are equal
    UNPROVEN    has a reason
    nothing     is a fault: every minute of every symbol has exactly one of the three

It reads `Evidence` and nothing else, and fails if it had nothing to compare.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from hashlib import blake2b
from typing import Final, NamedTuple

from tests.faults.evidence import MINUTE_MS, Bar, Block, Evidence, Trade

FAULTS_SHOWN: Final = 40
MODULUS_64: Final = 2**64
PROVEN, BACKFILLED, UNPROVEN = "PROVEN", "BACKFILLED", "UNPROVEN"


@dataclass
class Verdict:
    """What was compared and what is wrong. `faults` is cut at forty; `fault_count` is not."""

    minutes: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    trades: int = 0
    stream_trades: int = 0
    provisional: int = 0
    fault_count: int = 0
    faults: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        return self.fault_count == 0

    def fault(self, text: str) -> None:
        self.fault_count += 1
        if len(self.faults) < FAULTS_SHOWN:
            self.faults.append(text)

    def summary(self) -> str:
        shares = ", ".join(f"{self.minutes[name]} {name}" for name in (PROVEN, BACKFILLED, UNPROVEN))
        return f"compared {shares} minutes, {self.trades} trades of the journal, {self.stream_trades} of the stream"


class Minute(NamedTuple):
    """What a minute must look like: its trades in the exchange's order, and the close carried into it.

    `carried` is None if no price came before, or none that the ledger vouches for.
    """

    trades: list[Trade]
    carried: int | None


def trade_hash(trade: Trade) -> int:
    """64-bit BLAKE2b of the five values, as docs say: time, id, side, ticks, steps, joined by bars."""
    text = f"{trade.ts_ms}|{trade.trade_id}|{trade.side}|{trade.price}|{trade.quantity}"
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "big")


def check(evidence: Evidence) -> Verdict:
    verdict = Verdict()
    counted = _counted_on_stream(evidence, verdict)
    for symbol in sorted(evidence.decimals):
        _check_symbol(evidence, symbol, counted.get(symbol, {}), verdict)
    _refuse_empty(evidence, verdict)
    return verdict


def _refuse_empty(evidence: Evidence, verdict: Verdict) -> None:
    if not evidence.decimals:
        verdict.fault("no symbol was followed")
    if not verdict.minutes[PROVEN]:
        verdict.fault("nothing compared: no minute is PROVEN")
    if not verdict.trades or not verdict.stream_trades:
        verdict.fault("nothing compared: no trade in the journal or on the stream")


# --- the stream -------------------------------------------------------------------------------------------------------


def _counted_on_stream(evidence: Evidence, verdict: Verdict) -> dict[str, dict[int, list[Trade]]]:
    """symbol -> minute -> trades, as a reader with the fence takes them: no token after a greater one."""
    counted: dict[str, dict[int, list[Trade]]] = {}
    for shard, blocks in evidence.shards.items():
        greatest = 0
        last: dict[str, tuple[int, int]] = {}
        for block in blocks:
            if block.token < greatest:
                if (shard, block.entry_id) not in evidence.dead:
                    verdict.fault(f"entry {block.entry_id} of token {block.token} after {greatest} was not set aside")
                continue
            greatest = max(greatest, block.token)
            if block.trades:
                _check_order(block, last, verdict)
                minutes = counted.setdefault(block.symbol, {})
                for trade in block.trades:
                    minutes.setdefault(trade.ts_ms // MINUTE_MS, []).append(trade)
    for symbol, minutes in counted.items():
        _check_ids(symbol, minutes, verdict)
    return counted


def _check_order(block: Block, last: dict[str, tuple[int, int]], verdict: Verdict) -> None:
    """Under one token a symbol's ordinals only grow; `last` is moved."""
    verdict.stream_trades += len(block.trades)
    before = last.get(block.symbol, (0, 0))
    if (block.token, block.ordinal) <= before:
        verdict.fault(
            f"{block.symbol}: entry {block.entry_id} begins at token {block.token} ordinal {block.ordinal},"
            f" the one before ended at {before}"
        )
    last[block.symbol] = (block.token, block.ordinal + len(block.trades) - 1)


def _check_ids(symbol: str, minutes: dict[int, list[Trade]], verdict: Verdict) -> None:
    ids = Counter(trade.trade_id for trades in minutes.values() for trade in trades if trade.trade_id)
    for trade_id, times in ids.items():
        if times > 1:
            verdict.fault(f"{symbol}: trade {trade_id} is on the stream {times} times")


# --- the ledger -------------------------------------------------------------------------------------------------------


def _check_symbol(evidence: Evidence, symbol: str, stream: dict[int, list[Trade]], verdict: Verdict) -> None:
    """Every minute from the symbol's first statement to the last one its shard calls closed."""
    closed = evidence.closed.get(symbol)
    if closed is None:
        verdict.fault(f"{symbol}: its shard has closed no minute")
        return
    stated = [minute for name, minute in (*evidence.bars, *evidence.coverage) if name == symbol]
    first = min((minute for minute in stated if minute >= evidence.start_minute), default=None)
    if first is None:
        verdict.fault(f"{symbol}: no statement about any minute")
        return
    truth = _truth(evidence.journal.get(symbol, []))
    doubtful = {
        minute
        for minute in truth
        if (symbol, minute) in evidence.disordered or _status(evidence, symbol, minute) == "unproven"
    }
    for minute, wanted in _minutes(truth, doubtful, first, closed):
        _check_minute(evidence, symbol, minute, wanted, stream.get(minute, []), verdict)
    swept = evidence.swept.get(symbol)
    verdict.provisional += max(0, closed - (first - 1 if swept is None else max(swept, first - 1)))


def _truth(journal: list[Trade]) -> dict[int, list[Trade]]:
    grouped: dict[int, list[Trade]] = {}
    for trade in journal:
        grouped.setdefault(trade.ts_ms // MINUTE_MS, []).append(trade)
    return grouped


def _status(evidence: Evidence, symbol: str, minute: int) -> str:
    statement = evidence.coverage.get((symbol, minute))
    return "proven" if statement is None else statement.status


def _minutes(truth: dict[int, list[Trade]], doubtful: set[int], first: int, last: int) -> Iterator[tuple[int, Minute]]:
    """A close is carried on from a minute with trades, unless that minute's own close is doubtful."""
    before = [minute for minute in truth if minute < first]
    carried = truth[max(before)][-1].price if before else None
    for minute in range(first, last + 1):
        trades = truth.get(minute, [])
        yield minute, Minute(trades, carried)
        if trades:
            carried = None if minute in doubtful else trades[-1].price


def _check_minute(
    evidence: Evidence, symbol: str, minute: int, wanted: Minute, stream: list[Trade], verdict: Verdict
) -> None:
    where = f"{symbol} minute {minute}"
    bar, statement = evidence.bars.get((symbol, minute)), evidence.coverage.get((symbol, minute))
    if statement is not None and statement.status == "unproven":
        verdict.minutes[UNPROVEN] += 1
        verdict.reasons[statement.reason] += 1
        if not statement.reason.strip():
            verdict.fault(f"{where}: UNPROVEN without a reason")
        return
    if bar is None:
        verdict.fault(f"{where}: no statement" if statement is None else f"{where}: {statement.status} without a bar")
        return
    verdict.trades += len(wanted.trades)
    price_decimals, quantity_decimals = evidence.decimals[symbol]
    scale = (Decimal(1).scaleb(-price_decimals), Decimal(1).scaleb(-quantity_decimals))
    if statement is None:
        verdict.minutes[PROVEN] += 1
        disordered = (symbol, minute) in evidence.disordered
        faults = _proven_faults(bar, wanted, scale, disordered) + _stream_faults(stream, wanted.trades)
    elif statement.status == "backfilled":
        verdict.minutes[BACKFILLED] += 1
        faults = _price_faults(bar, wanted, scale) + _sum_faults(bar, wanted, scale)
    else:
        faults = [f"unknown status {statement.status}"]
    for fault in faults:
        verdict.fault(f"{where} ({'PROVEN' if statement is None else statement.status}): {fault}")


def _differ(name: str, ours: object, theirs: object) -> list[str]:
    return [] if ours == theirs else [f"{name} is {ours}, the exchange has {theirs}"]


def _prices(wanted: Minute) -> tuple[int, int, int, int] | None:
    """Open, high, low, close in ticks; of a minute without trades the carried close, None if there was none yet."""
    if not wanted.trades:
        return None if wanted.carried is None else (wanted.carried,) * 4
    prices = [trade.price for trade in wanted.trades]
    return prices[0], max(prices), min(prices), prices[-1]


def _price_faults(bar: Bar, wanted: Minute, scale: tuple[Decimal, Decimal], *, ends: bool = True) -> list[str]:
    """`ends`: open and close too. They are not comparable where the exchange itself sent trades out of order."""
    prices = _prices(wanted)
    if prices is None:
        return []  # nothing is known of a price before the first trade
    named = zip(("open", "high", "low", "close"), bar[:4], prices, strict=True)
    return [
        fault
        for name, ours, ticks in named
        if ends or name in ("high", "low")
        for fault in _differ(name, ours, ticks * scale[0])
    ]


def _sum_faults(bar: Bar, wanted: Minute, scale: tuple[Decimal, Decimal]) -> list[str]:
    volume = sum(trade.quantity for trade in wanted.trades) * scale[1]
    turnover = sum(trade.price * trade.quantity for trade in wanted.trades) * scale[0] * scale[1]
    return _differ("volume", bar.volume, volume) + _differ("turnover", bar.turnover, turnover)


def _proven_faults(bar: Bar, wanted: Minute, scale: tuple[Decimal, Decimal], disordered: bool) -> list[str]:
    trades = wanted.trades
    hash_sum = sum(map(trade_hash, trades)) % MODULUS_64
    faults = _differ("count", bar.trade_count, len(trades)) + _differ("hash sum", bar.hash_sum % MODULUS_64, hash_sum)
    faults += _price_faults(bar, wanted, scale, ends=not disordered) + _sum_faults(bar, wanted, scale)
    if not disordered:
        first, last = (trades[0].trade_id, trades[-1].trade_id) if trades else ("", "")
        faults += _differ("first trade id", bar.first_trade_id, first)
        faults += _differ("last trade id", bar.last_trade_id, last)
    return faults


def _stream_faults(stream: list[Trade], wanted: list[Trade]) -> list[str]:
    ours, theirs = Counter(stream), Counter(wanted)
    if ours == theirs:
        return []
    missing, surplus = list((theirs - ours).elements()), list((ours - theirs).elements())
    example = tuple((missing or surplus)[0])
    return [f"the stream lacks {len(missing)} and has {len(surplus)} too many of {len(wanted)} trades, e.g. {example}"]
