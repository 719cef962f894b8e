"""What a simulation gives: every signal, decision, fill and round trip, and a hash that tells two results apart."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from hashlib import blake2b

from apps.engine.desk.account import DeskDecision, DeskEnd
from apps.engine.model import FailedStrategy, Quote
from apps.engine.money import ZERO
from apps.engine.performance import RoundTrip
from apps.engine.portfolio import Fill
from apps.engine.risk.words import plain
from apps.engine.tapes import Tape


@dataclass(frozen=True, slots=True)
class SimulatedSignal:
    """A signal. `price` and `median` are ticks; `figures` are the strategy's (floats), empty for an exit."""

    key: str
    version_id: int
    symbol: str
    kind: str  # entry or exit
    reason: str  # of an exit
    ts_event: int
    trade_id: str
    price: int
    figures: tuple[float, ...]
    quote: Quote | None
    median: Decimal | None
    confirmed: int | None = None  # ticks


@dataclass(frozen=True, slots=True)
class Refusal:
    """A signal that was not raised: so many minutes of its window are UNPROVEN, the first of them for this reason."""

    signal: SimulatedSignal
    unproven_minutes: int
    reason: str


@dataclass(slots=True)
class Result:
    """All lists are in the order in which things happened. `equity` holds (minute, worth at its close)."""

    trades: int = 0
    first_ts: int | None = None
    last_ts: int | None = None
    signals: list[SimulatedSignal] = field(default_factory=list)
    refusals: list[Refusal] = field(default_factory=list)
    decisions: list[DeskDecision] = field(default_factory=list)
    ends: list[DeskEnd] = field(default_factory=list)
    round_trips: list[RoundTrip] = field(default_factory=list)
    equity: list[tuple[int, Decimal]] = field(default_factory=list)
    exposed_minutes: int = 0  # of `equity`: in which something was held
    failed: list[FailedStrategy] = field(default_factory=list)  # strategies that raised, and on which trade
    open_positions: int = 0
    open_orders: int = 0
    cash: Decimal = ZERO

    def count(self, tape: Tape) -> None:
        """Take note of a slice of one symbol."""
        if not len(tape):
            return
        first, last = int(tape.ts[0]), int(tape.ts[-1])
        self.trades += len(tape)
        self.first_ts = first if self.first_ts is None else min(self.first_ts, first)
        self.last_ts = last if self.last_ts is None else max(self.last_ts, last)

    @property
    def fills(self) -> list[DeskEnd]:
        return [end for end in self.ends if isinstance(end.outcome, Fill)]

    @property
    def decision_hash(self) -> str:
        """Equal for equal signals, decisions and fills, whatever computed them and however the tape was cut."""
        digest = blake2b(digest_size=16)
        for line in self.lines():
            digest.update(line.encode())
            digest.update(b"\n")
        return digest.hexdigest()

    def lines(self) -> Iterator[str]:
        """One line of text for each signal, decision and end of an order; numbers in full."""
        for signal in self.signals:
            figures = ",".join(figure.hex() for figure in signal.figures)
            yield f"signal {signal.key} {signal.kind} {signal.reason} {signal.ts_event} {signal.price} {figures}"
        for decision in self.decisions:
            ruled = decision.ruled
            checks = ";".join(f"{row['code']}={row['value']}/{row['limit']}:{row['passed']}" for row in ruled.checks)
            order = ruled.proposal.intent
            yield (
                f"decision {decision.trigger_key} {ruled.approved} {plain(order.quantity)} {plain(order.limit_price)} "
                f"{plain(ruled.equity)} {plain(ruled.exposure_before)} {plain(ruled.exposure_after)} {checks}"
            )
        for end in self.ends:
            outcome = end.outcome
            if isinstance(outcome, Fill):
                told = f"{plain(outcome.price)} {plain(outcome.quantity)} {plain(outcome.fee)} {outcome.ts_event}"
            else:
                told = f"{outcome.reason}"
            yield f"end {end.order.trigger_key} {told}"
