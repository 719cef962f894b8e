"""A long day of an account through the real services, by a seed: signals of every kind, and what becomes of them."""

from __future__ import annotations

import itertools
import random
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Final

from apps.engine.sizing import step_of
from apps.execution.models import Order
from apps.execution.services import submit_order, sync_order
from apps.execution.venues.base import WORKING, Balance, OrderRequest, Report, VenueFill, VenueOrderView, VenueStatus
from apps.portfolio.models import Position, Reservation
from apps.risk.models import OrderIntent, RiskDecision, RiskLimits, TradingState
from apps.risk.services import set_trading_state
from apps.signals.models import Signal
from apps.signals.services.raising import refuse
from tests.execution.venues import ScriptedVenue
from tests.worlds import NOW_MS, World, fresh, stale, unknown

SYMBOLS: Final = ("XRPUSDT", "ADAUSDT", "SOLUSDT", "DOGEUSDT", "TRXUSDT")
INTENT_TOO_OLD_MS: Final = 60_000
LONG_AFTER_MS: Final = 600_000
ROOMY: Final = {
    "order_size": Decimal("0.004"), "open_orders_symbol_max": 5_000, "open_orders_max": 5_000, "repeat_max": 5_000,
    "positions_per_symbol_max": 5_000, "orders_per_day_max": 100_000,
    "day_loss_reducing": Decimal("0.98"), "day_loss_halted": Decimal("0.99"), "drawdown_reducing": Decimal("0.98"),
    "drawdown_halted": Decimal("0.99"),
}  # fmt: skip
"""Limits under which a day goes on whatever stays open, until its exposure is full."""
EXIT_SHARE: Final = 0.35
TIDY_EVERY: Final = 100
TRIES_MAX: Final = 30
EXITS_FOR_ROOM: Final = 5
STAYING_OPEN: Final = ("undecided", "unsent", "at work", "filling", "unknown")
NOT_OVER: Final = ("SUBMITTING", "SUBMITTED", "ACCEPTED", "PARTIALLY_FILLED", "UNKNOWN")


def wall_ms() -> int:
    return time.time_ns() // 1_000_000


@dataclass
class Exchange:
    """One venue for all orders, each with a fate of its own."""

    name: str = "scripted"
    own: dict[str, ScriptedVenue] = field(default_factory=dict)

    def submit(self, request: OrderRequest) -> Report:
        return self.own[request.client_order_id].submit(request)

    def query(self, client_order_id: str) -> Report | None:
        known = self.own.get(client_order_id)
        return None if known is None else known.query(client_order_id)

    def trades(self, client_order_id: str) -> list[VenueFill]:
        known = self.own.get(client_order_id)
        return [] if known is None else known.trades(client_order_id)

    def cancel(self, client_order_id: str, *, at_ms: int | None = None) -> Report | None:
        known = self.own.get(client_order_id)
        return None if known is None else known.cancel(client_order_id, at_ms=at_ms)

    def open_orders(self) -> list[VenueOrderView]:
        return [row for one in self.own.values() if one.answers for row in one.open_orders()]

    def balances(self) -> dict[str, Balance]:
        return {}

    def fills_since(self, ts_ms: int) -> list[tuple[str, VenueFill]]:
        return [row for one in self.own.values() if one.answers for row in one.fills_since(ts_ms)]


@dataclass
class Day:
    """`done` counts what was tried with how many signals."""

    world: World
    dice: random.Random
    trades: itertools.count[int] = field(default_factory=lambda: itertools.count(1))
    left_unsent: list[OrderIntent] = field(default_factory=list)
    done: Counter[str] = field(default_factory=Counter)
    exchange: Exchange = field(default_factory=Exchange)

    def run(self, signals: int) -> None:
        """Each fate once, then by dice, with exits between; at the end a few stay open."""
        RiskLimits.objects.filter(account=self.world.account).update(**ROOMY)
        fates = [*FATES]
        for number in range(signals):
            if number % TIDY_EVERY == TIDY_EVERY - 1:
                self._tidy()
            if number >= len(fates) and self.dice.random() < EXIT_SHARE:
                self._exit()
                continue
            name = fates[number % len(fates)] if number < len(fates) else self.dice.choice(fates)
            self.done[name] += 1
            FATES[name](self)

        self._tidy()
        for name in STAYING_OPEN:
            self._surely(name)

    def _surely(self, name: str) -> None:
        """Until it was approved, which the first one is not if the book is full; then positions end."""
        before = OrderIntent.objects.count()
        for _ in range(TRIES_MAX):
            FATES[name](self)
            if name == "undecided" or OrderIntent.objects.count() > before:
                return
            for _ in range(EXITS_FOR_ROOM):
                self._exit()
        last = RiskDecision.objects.order_by("-pk").values_list("sentence", flat=True).first()
        raise AssertionError(f"nothing is approved any more: {last}")

    def _tidy(self) -> None:
        """The venue ends what it works and tells of what it was silent about, and exits that were held are decided, or
        the book would be full for good."""
        for intent in self.left_unsent:
            self._send(intent, self._venue(VenueStatus.REJECTED, reason="too late"))
        self.left_unsent.clear()
        for signal in Signal.objects.filter(position__isnull=False, decisions__isnull=True).order_by("id"):
            self._sell(signal, fresh)
        for order in Order.objects.filter(status__in=NOT_OVER):
            venue = self.exchange.own[order.client_order_id]
            venue.answers = True
            venue.status = VenueStatus.CANCELED if venue.status in WORKING else venue.status
            for later_ms in (0, LONG_AFTER_MS):
                sync_order(order_id=order.pk, venue=self.exchange, now_ms=wall_ms() + later_ms)

    def finish(self) -> None:
        """Send what was left, so that nothing waits any more."""
        for intent in self.left_unsent:
            self._send(intent, self._venue(VenueStatus.REJECTED, reason="too late in the day"))

    # --- entries --------------------------------------------------------------------------------------------------

    def signal(self, **fields: Any) -> Signal:
        """An entry somewhere near 0.5, in one of the symbols."""
        price = Decimal(self.dice.randint(4_950, 5_050)).scaleb(-4)
        given = {"price": price, "confirmed_price": price, **fields}
        return self.world.entry_signal(self.dice.choice(SYMBOLS), **given)

    def _decided(self, **fields: Any) -> OrderIntent | None:
        decision = self.world.decide(self.signal(**fields))
        return None if decision is None else OrderIntent.objects.filter(decision=decision).first()

    def _refused(self) -> None:
        row = self.signal(unproven_minutes=2, unproven_reason="gap of 3 s")
        row.delete()
        refuse([row])

    def _undecided(self) -> None:
        self.signal()

    def _by_feed(self) -> None:
        self.world.decide(self.signal(), feed=self.dice.choice([stale, unknown]))

    def _late(self) -> None:
        self.world.decide(self.signal(ts_init=NOW_MS - self.dice.randint(2_001, 90_000)))

    def _over_a_hole(self) -> None:
        self._decided(unproven_minutes=1, unproven_reason="gap of 3 s")

    def _far_from_the_quote(self) -> None:
        self._decided(bid=Decimal("0.4"), ask=Decimal("0.41"))

    def _without_a_quote(self) -> None:
        self._decided(bid=None, ask=None)

    def _while(self, state: TradingState) -> None:
        account = self.world.account.pk
        set_trading_state(account_id=account, to_state=state, set_by="mara", reason="looks odd")
        self.world.decide(self.signal())
        set_trading_state(account_id=account, to_state=TradingState.ACTIVE, set_by="mara", reason="it was nothing")

    def _at_once(self) -> None:
        """Two in one instant."""
        first = self.signal()
        self.world.decide(first)
        twin = {"ts_event": first.ts_event, "instrument": first.instrument, "price": first.price}
        self.world.decide(self.world.entry_signal(first.instrument.symbol, **twin, confirmed_price=first.price))
        for intent in OrderIntent.objects.filter(decision__signal__ts_event=first.ts_event, order__isnull=True):
            self._send(intent, self._filled(intent))

    # --- orders ---------------------------------------------------------------------------------------------------

    def _unsent(self) -> None:
        intent = self._decided()
        if intent is not None:
            self.left_unsent.append(intent)

    def _too_old(self) -> None:
        intent = self._decided()
        if intent is not None:
            self._send(intent, ScriptedVenue(), age_ms=INTENT_TOO_OLD_MS)

    def _halted_before_sending(self) -> None:
        intent, account = self._decided(), self.world.account.pk
        set_trading_state(account_id=account, to_state=TradingState.HALTED, set_by="mara", reason="looks odd")
        if intent is not None:
            self._send(intent, ScriptedVenue())
        set_trading_state(account_id=account, to_state=TradingState.ACTIVE, set_by="mara", reason="it was nothing")

    def _traded(self) -> None:
        intent = self._decided()
        if intent is not None:
            self._send(intent, self._filled(intent))

    def _ended(self, status: VenueStatus, *, share: str = "0") -> None:
        """The venue ends the order, after a part of it was filled."""
        intent = self._decided()
        if intent is not None:
            self._send(intent, self._filled(intent, Decimal(share), status))

    def _silent(self, *, keeps: bool, asked: bool) -> None:
        """No answer; and then, if the venue is asked again, what it knows."""
        intent = self._decided()
        if intent is None:
            return
        venue = ScriptedVenue(answers=False, keeps=keeps)
        order = self._send(intent, venue)
        if asked and order is not None:
            venue.answers = True
            for later_ms in (0, LONG_AFTER_MS):  # "never received" is believed when it is said again later
                sync_order(order_id=order.pk, venue=self.exchange, now_ms=wall_ms() + later_ms)

    def _send(self, intent: OrderIntent, venue: ScriptedVenue, *, age_ms: int = 0, feed: Any = fresh) -> Order | None:
        now_ms = int(intent.created_at.timestamp() * 1000) + age_ms
        self.exchange.own[intent.client_order_id] = venue
        return submit_order(intent_id=intent.pk, now_ms=now_ms, feed=feed, venue=self.exchange)

    def _venue(self, status: VenueStatus, *, reason: str = "") -> ScriptedVenue:
        return ScriptedVenue(status=status, reason=reason)

    def _filled(
        self, intent: OrderIntent, share: Decimal = Decimal(1), status: VenueStatus = VenueStatus.FILLED
    ) -> ScriptedVenue:
        """A venue that has filled a share of the order, a little inside its limit."""
        venue = self._venue(status, reason="" if status is VenueStatus.FILLED else "ended by the venue")
        quantity = (intent.quantity * share).quantize(step_of(intent.instrument.quantity_decimals))
        if quantity > 0:
            price = intent.limit_price * (Decimal("1.01") if intent.reducing else Decimal("0.985"))
            at = f"{price.quantize(Decimal('0.0001')):f}"
            venue.fill(f"t{next(self.trades)}", intent.side, f"{quantity:f}", at, "0.05")
        return venue

    # --- exits ----------------------------------------------------------------------------------------------------

    def _exit(self) -> None:
        """Of a position that nothing sells yet: sold, held on a stale feed, or ended by the venue."""
        busy = Reservation.objects.filter(active=True, reducing=True).values("position")
        held = Signal.objects.filter(position__isnull=False, decisions__isnull=True).values("position")
        position = (
            Position.objects.filter(status="open").exclude(pk__in=busy).exclude(pk__in=held).order_by("id").first()
        )
        if position is None:
            self._traded()
            return
        self.done["exit"] += 1
        signal = self.world.exit_signal(position, exit_reason="stop_loss")
        self._sell(signal, self.dice.choices([fresh, stale], weights=[9, 1])[0])

    def _sell(self, signal: Signal, feed: Any) -> None:
        decision = self.world.decide(signal, feed=feed)
        if decision is None or decision.verdict != RiskDecision.Verdict.APPROVED:
            return
        intent = decision.intents.get()
        status = self.dice.choices([VenueStatus.FILLED, VenueStatus.EXPIRED], weights=[8, 1])[0]
        share = Decimal(1) if status is VenueStatus.FILLED else Decimal(0)
        self._send(intent, self._filled(intent, share, status))


FATES: Final[dict[str, Callable[[Day], None]]] = {
    "refused": Day._refused,
    "undecided": Day._undecided,
    "unsent": Day._unsent,
    "too old": Day._too_old,
    "halted before sending": Day._halted_before_sending,
    "traded": Day._traded,
    "rejected": lambda day: day._ended(VenueStatus.REJECTED),
    "canceled": lambda day: day._ended(VenueStatus.CANCELED),
    "expired": lambda day: day._ended(VenueStatus.EXPIRED),
    "part canceled": lambda day: day._ended(VenueStatus.CANCELED, share="0.4"),
    "part expired": lambda day: day._ended(VenueStatus.EXPIRED, share="0.7"),
    "at work": lambda day: day._ended(VenueStatus.OPEN),
    "filling": lambda day: day._ended(VenueStatus.PARTIALLY_FILLED, share="0.5"),
    "unknown": lambda day: day._silent(keeps=True, asked=False),
    "never received": lambda day: day._silent(keeps=False, asked=True),
    "received after all": lambda day: day._silent(keeps=True, asked=True),
    "feed": Day._by_feed,
    "late": Day._late,
    "hole": Day._over_a_hole,
    "far": Day._far_from_the_quote,
    "no quote": Day._without_a_quote,
    "reducing": lambda day: day._while(TradingState.REDUCING),
    "halted": lambda day: day._while(TradingState.HALTED),
    "at once": Day._at_once,
}
