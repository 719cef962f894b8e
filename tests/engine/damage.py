"""What befalls a made-up market on its way: lost frames, declared losses, take-overs, ends of coverage, repairs."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass, field

from apps.engine.events import Backfill, CoverageEnd, CoverageStart, Event, Loss, Watermark
from apps.engine.shard import ShardEngine
from apps.signals.services.state import pack_market
from tests.engine.market_stream import START_MS, Entry, Print, block_of
from tests.engine.test_shard import MINUTE, new_engine, run, started, trade, watermark

MINUTE_MS = 60_000
CALM_MINUTES = 10  # nothing happens before: every symbol has traded and has a price


@dataclass
class DamagedFeed:
    """Publishes prints frame by frame and loses some of them; every lost minute is repaired once it has closed.

    Without `repair_all` some stay as they are, and some repairs tell less than was received.
    """

    prints: list[Print]
    seed: int
    repair_all: bool = True
    entries: list[Entry] = field(default_factory=list)
    token: int = 1
    lost: set[tuple[str, int]] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.dice = random.Random(self.seed)
        self.symbols = sorted({row.symbol for row in self.prints})
        self.ordinals = dict.fromkeys(self.symbols, 0)
        self.received: Counter[tuple[str, int]] = Counter()  # volume
        self.away: dict[str, int] = {}  # symbol without coverage -> event time since when

    def entries_of_all(self) -> list[Entry]:
        self._add(CoverageStart(1, START_MS, 0, self.symbols, "test"))
        now, end, waiting = START_MS, self.prints[-1].ts_event + 3 * MINUTE_MS, list(self.prints)
        while now < end:
            calm = now < START_MS + CALM_MINUTES * MINUTE_MS or now > end - 2 * MINUTE_MS
            before, now = now, now + self.dice.choice((300, 20_000, MINUTE_MS))
            frame = [row for row in waiting if row.ts_event <= now]
            waiting = waiting[len(frame) :]
            if not calm and self.dice.random() < 0.1:
                self._befall(before)
            elif calm:
                self._return(before + 1)
            self._add(*[event for symbol in self.symbols for event in self._frame(symbol, frame, before, now, calm)])
            covered = {symbol: n for symbol, n in self.ordinals.items() if symbol not in self.away}
            self._add(Watermark(self.token, now, 0, covered), *self._repairs(now))
        self._add(*self._repairs(now, last=True))
        return self.entries

    def _add(self, *events: Event) -> None:
        if events:
            self.entries.append((f"{len(self.entries) + 1}-0", list(events)))

    def _frame(self, symbol: str, frame: list[Print], before: int, now: int, calm: bool) -> list[Event]:
        own = [row for row in frame if row.symbol == symbol]
        if symbol in self.away or not own:
            return []
        if not calm and self.dice.random() < 0.1:
            self._lose(symbol, before + 1, now)
            if self.dice.random() < 0.5:  # declared; else a missing ordinal tells
                return [Loss(self.token, before + 1, now, 0, [symbol], "a frame was dropped")]
            self.ordinals[symbol] += len(own)
            return []
        block = block_of(own, self.ordinals[symbol] + 1, self.token)
        self.ordinals[symbol] += len(own)
        for row in own:
            self.received[(symbol, row.ts_event // MINUTE_MS)] += row.quantity
        if not calm and self.dice.random() < 0.1:  # a doubt about what did arrive
            self._lose(symbol, before + 1, now)
            return [block, Loss(self.token, before + 1, now, 0, [symbol], "klines differ")]
        return [block]

    def _befall(self, before: int) -> None:
        """A take-over, an end of coverage, or its return."""
        symbol = self.dice.choice(self.symbols)
        what = self.dice.choice(("take-over", "end", "return"))
        if what == "take-over":
            self.token += 1
            self.ordinals = dict.fromkeys(self.symbols, 0)
            covered = [name for name in self.symbols if name not in self.away]
            self._add(CoverageStart(self.token, before + 1, 0, covered, "a take-over"))
        elif what == "end" and symbol not in self.away:
            self.away[symbol] = before + 1
            self._add(CoverageEnd(self.token, 0, [symbol], "refused"))
        elif what == "return":
            self._return(before + 1)

    def _return(self, since_ms: int) -> None:
        for symbol, left_ms in self.away.items():
            self._lose(symbol, left_ms, since_ms - 1)
            self._add(CoverageStart(self.token, since_ms, 0, [symbol], "accepted again"))
        self.away = {}

    def _lose(self, symbol: str, from_ms: int, to_ms: int) -> None:
        self.lost |= {(symbol, minute) for minute in range(from_ms // MINUTE_MS, to_ms // MINUTE_MS + 1)}

    def _repairs(self, now: int, last: bool = False) -> list[Event]:
        """Repairs of minutes that have closed, in any order, some much later."""
        closed = sorted((s, m) for s, m in self.lost if m < now // MINUTE_MS and s not in self.away)
        self.dice.shuffle(closed)
        events: list[Event] = []
        for symbol, minute in closed:
            if not last and self.dice.random() < 0.7:
                continue
            repair = repair_of(self.prints, symbol, minute, self.token)
            if not self.repair_all and self.dice.random() < 0.5:
                less = cut(repair)
                events += [less] if sum(less.quantity) < self.received[(symbol, minute)] else []
                continue
            self.lost.discard((symbol, minute))
            events += [repair] * self.dice.choice((1, 1, 2))
        return events


def repair_of(prints: list[Print], symbol: str, minute: int, token: int = 1) -> Backfill:
    """All that happened in the minute, as REST tells it: times in whole seconds, no ids."""
    rows = [row for row in prints if row.symbol == symbol and row.ts_event // MINUTE_MS == minute]
    return Backfill(
        token, symbol, minute, 0, "aggTrades",
        [row.ts_event // 1000 * 1000 for row in rows],
        [row.price for row in rows],
        [row.quantity for row in rows],
        [row.side for row in rows],
    )  # fmt: skip


def cut(repair: Backfill) -> Backfill:
    """The same without its last row."""
    columns = [column[:-1] for column in (repair.ts_event, repair.price, repair.quantity, repair.side)]
    return Backfill(repair.token, repair.symbol, repair.minute, 0, repair.source, *columns)


def repair(minute: int, *rows: tuple[int, int], token: int = 1) -> Backfill:
    """(price, quantity) of each row."""
    at = (MINUTE + minute) * 60_000
    return Backfill(
        token, "AAAUSDT", MINUTE + minute, 0, "trades", [at] * len(rows), [row[0] for row in rows],
        [row[1] for row in rows], [1] * len(rows),
    )  # fmt: skip


def lost(minute: int, until: int | None = None, token: int = 1) -> Loss:
    first, last = MINUTE + minute, MINUTE + (minute if until is None else until)
    return Loss(token, first * 60_000, last * 60_000, 0, ["AAAUSDT"], "a test lost it")


def damaged(minutes: int = 3) -> ShardEngine:
    """One trade of 5 steps at 100 in minute 0, none after; minute `minutes` is open, minute 0 was lost."""
    engine = new_engine("AAAUSDT")
    run(engine, [("1-0", [started(), block_of([trade(0, 1)], 1), lost(0)]), ("2-0", [passed(minutes)])])
    return engine


def passed(minutes: int, ordinal: int = 1, token: int = 1) -> Watermark:
    return watermark(START_MS + minutes * 60_000, ordinal, token)


def state_of(engine: ShardEngine) -> list[bytes]:
    parts = [pack_market(engine, symbol) for symbol in engine.symbols]
    return parts + [part.tobytes() for state in engine.symbols.values() for part in state.strategies]
