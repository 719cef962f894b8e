"""Orders, money and risk under every interleaving that hypothesis finds, on real PostgreSQL beside a small reference.

`make test` tries a few examples; `make prove-orders` 2,000 (docs/risk.md).
"""

from __future__ import annotations

import os
import sys
from collections import Counter
from decimal import Decimal

import pytest
from django.db import connection, transaction
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from apps.execution.models import Order, OrderAnomaly
from apps.execution.services import CancelRefused, book_fills, cancel_order, submit_order, sync_order
from apps.execution.venues.base import VenueStatus
from apps.portfolio.models import Account, Position, Reservation
from apps.risk.models import OrderIntent, RiskDecision, RiskLimits, TradingState
from apps.risk.services import StateRefused, set_trading_state
from apps.signals.models import Signal
from tests.execution.books import books_agree
from tests.execution.machine import ENDED, SYMBOLS, DeskVenue, Expected
from tests.worlds import World, fresh, open_world

D = Decimal
EXAMPLES = int(os.environ.get("ORDER_EXAMPLES", "10"))
STEPS = int(os.environ.get("ORDER_STEPS", "15"))
EXPOSURE_MAX = D("0.05")  # two orders of 2 040 fit, a third does not
LONG = EXAMPLES > 50
pytestmark = [pytest.mark.django_db, pytest.mark.timeout(0 if LONG else 600)]

SEEN: Counter[str] = Counter()
"""What happened in all examples together: a proof that met nothing would be none."""

PICK = st.integers(0, 1_000)


class Orders(RuleBasedStateMachine):
    """One account with two symbols. Every rule does one thing to us or to the venue; the books must agree then."""

    world: World

    @initialize()
    def begin(self) -> None:
        SEEN.update(["examples"])
        self.savepoint = transaction.savepoint()
        self.world = open_world(SYMBOLS)
        RiskLimits.objects.filter(account=self.world.account).update(
            exposure_max=EXPOSURE_MAX, open_orders_symbol_max=3
        )
        self.venue = DeskVenue()
        self.orders: dict[str, Expected] = {}
        self.raised: set[tuple[int, int]] = set()
        self.now_ms = 1_800_000_000_000
        self.limit = D(0)
        self.unpromised = D(0)

    def teardown(self) -> None:
        if hasattr(self, "savepoint"):
            transaction.savepoint_rollback(self.savepoint)

    # --- signals and decisions ----------------------------------------------------------------------------------------

    @rule(symbol=st.sampled_from(SYMBOLS))
    def signal(self, symbol: str) -> None:
        self._decide(self.world.entry_signal(symbol))

    @precondition(lambda self: self._free_positions())
    @rule(pick=PICK)
    def exit(self, pick: int) -> None:
        free = self._free_positions()
        position = free[pick % len(free)]
        self.raised.add((position.pk, position.exit_attempts))
        self._decide(self.world.exit_signal(position, instrument=position.instrument))

    def _free_positions(self) -> list[Position]:
        open_ones = Position.objects.filter(account=self.world.account, status="open").select_related("instrument")
        return [row for row in open_ones.order_by("id") if (row.pk, row.exit_attempts) not in self.raised]

    def _decide(self, signal: Signal) -> None:
        decision = self.world.decide(signal)
        assert decision is not None
        assert self.world.decide(signal) is None
        intent = OrderIntent.objects.filter(decision=decision).select_related("instrument").first()
        assert (intent is not None) is (decision.verdict == RiskDecision.Verdict.APPROVED)
        SEEN.update([f"{'exit' if decision.signal.position_id else 'entry'} {decision.verdict}"])
        if intent is None:
            assert decision.reasons
            return
        if not intent.reducing:
            assert decision.trading_state == TradingState.ACTIVE
            self.limit = max(self.limit, EXPOSURE_MAX * decision.equity)
            assert decision.exposure_after <= EXPOSURE_MAX * decision.equity
        self.orders[intent.client_order_id] = Expected(
            intent.client_order_id, intent.pk, intent.instrument.symbol, intent.reducing, intent.quantity,
            intent.limit_price, intent.ts_event, intent.position_id,
        )  # fmt: skip

    # --- sending ------------------------------------------------------------------------------------------------------

    @precondition(lambda self: self.orders)
    @rule(
        pick=PICK,
        how=st.sampled_from(["clear", "clear", "clear", "rejected", "lost", "unanswered", "late"]),
        old=st.integers(0, 9),
    )
    def submit(self, pick: int, how: str, old: int) -> None:
        """Also of what was sent before: nothing may happen then."""
        one = self._pick(pick)
        created = OrderIntent.objects.get(pk=one.intent_id).created_at
        now_ms = int(created.timestamp() * 1000) + (2_500 if old == 0 else 0)
        self.venue.how = how
        submit_order(intent_id=one.intent_id, now_ms=now_ms, feed=fresh, venue=self.venue)
        if one.status != "WAITING":
            return
        state = self.world.state.trading_state
        if state == "HALTED" or (state == "REDUCING" and not one.reducing):
            one.status = "DENIED"
        elif old == 0 and not one.reducing:
            one.status = "EXPIRED"
        else:
            self._replaced_by(one, now_ms)
            one.status = {"clear": "ACCEPTED", "rejected": "REJECTED"}.get(how, "UNKNOWN")
        SEEN.update([f"sent: {one.status}"])

    def _replaced_by(self, exit_order: Expected, now_ms: int) -> None:
        """An exit takes back entries of its symbol that rest."""
        for one in self.orders.values():
            same = one.symbol == exit_order.symbol and not one.reducing
            if exit_order.reducing and same and one.alive and one.ts_event + 1_000 <= exit_order.ts_event:
                one.cancel_asked = True
                self.unpromised += one.told(self.venue, now_ms)

    # --- the venue ----------------------------------------------------------------------------------------------------

    @precondition(lambda self: self.venue.on_its_way)
    @rule(pick=PICK)
    def arrive(self, pick: int) -> None:
        names = sorted(self.venue.on_its_way)
        self.venue.arrive(names[pick % len(names)])

    @precondition(lambda self: self._fillable())
    @rule(pick=PICK, tenths=st.sampled_from([1, 3, 5, 10, 10]), ticks=st.integers(4_900, 5_100))
    def fill(self, pick: int, tenths: int, ticks: int) -> None:
        """A part or the rest of an order, also one that was canceled or has expired there a moment ago."""
        names = self._fillable()
        name = names[pick % len(names)]
        order, one = self.venue.book[name], self.orders[name]
        most = order.left if not one.reducing else min(order.left, self._sellable(one))
        quantity = (most * tenths / 10).quantize(D("0.01"))
        if quantity > 0:
            price = D(ticks).scaleb(-4)
            self.venue.fill(name, quantity, min(price, one.limit_price) if not one.reducing else price)

    def _fillable(self) -> list[str]:
        return sorted(
            name
            for name, order in self.venue.book.items()
            if order.left > 0 and order.status is not VenueStatus.REJECTED
        )

    def _sellable(self, one: Expected) -> Decimal:
        """What a sale may still take: the venue sells nothing that it does not hold for us."""
        sold = sum(
            (
                order.filled
                for name, order in self.venue.book.items()
                if self.orders[name].position_id == one.position_id
            ),
            D(0),
        )
        opener = Position.objects.get(pk=one.position_id or 0).opened_by
        return self.orders[opener].filled - sold

    @precondition(lambda self: self._working())
    @rule(pick=PICK, status=st.sampled_from([VenueStatus.CANCELED, VenueStatus.EXPIRED]))
    def end(self, pick: int, status: VenueStatus) -> None:
        names = self._working()
        self.venue.book[names[pick % len(names)]].status = status

    def _working(self) -> list[str]:
        return sorted(name for name, order in self.venue.book.items() if order.working)

    # --- asking -------------------------------------------------------------------------------------------------------

    @precondition(lambda self: self.orders)
    @rule(
        pick=PICK,
        later_ms=st.sampled_from([0, 1_000, 5_000, 60_000]),
        how=st.sampled_from(["", "", "silent", "doubled"]),
    )
    def ask(self, pick: int, later_ms: int, how: str) -> None:
        one = self._pick(pick)
        order = Order.objects.filter(client_order_id=one.client_order_id).first()
        if order is None:
            return
        self.now_ms += later_ms
        self.venue.silent, self.venue.doubled = how == "silent", how == "doubled"
        sync_order(order_id=order.pk, venue=self.venue, now_ms=self.now_ms)
        self.venue.silent = self.venue.doubled = False
        if how != "silent" and one.status != "DENIED":
            self.unpromised += one.told(self.venue, self.now_ms)
        elif how == "silent" and one.status == "SUBMITTING":
            one.status = "UNKNOWN"

    @precondition(lambda self: self._shown())
    @rule(pick=PICK, how=st.sampled_from(["symbol", "price", "quantity"]))
    def ask_and_hear_nonsense(self, pick: int, how: str) -> None:
        """Beside its fills, the list has one that cannot be ours."""
        names = self._shown()
        one = self.orders[names[pick % len(names)]]
        before = OrderAnomaly.objects.filter(account=self.world.account).count()
        self.venue.distorted = how
        sync_order(
            order_id=Order.objects.get(client_order_id=one.client_order_id).pk, venue=self.venue, now_ms=self.now_ms
        )
        self.venue.distorted = ""
        self.unpromised += one.told(self.venue, self.now_ms)
        assert OrderAnomaly.objects.filter(account=self.world.account).count() in (before, before + 1)
        assert self.world.state.trading_state != "ACTIVE" or OrderAnomaly.objects.filter(times__gt=1).exists()

    def _shown(self) -> list[str]:
        return sorted(
            name for name, order in self.venue.book.items() if order.fills and self.orders[name].status != "DENIED"
        )

    @precondition(lambda self: self.orders)
    @rule(pick=PICK, silent=st.booleans())
    def cancel(self, pick: int, silent: bool) -> None:
        one = self._pick(pick)
        order = Order.objects.filter(client_order_id=one.client_order_id).first()
        if order is None:
            return
        self.venue.silent = silent
        try:
            cancel_order(order_id=order.pk, reason="a test", by="tester", venue=self.venue, now_ms=self.now_ms)
        except CancelRefused:
            assert one.status in ENDED
            return
        finally:
            self.venue.silent = False
        one.cancel_asked = True
        if not silent:
            self.unpromised += one.told(self.venue, self.now_ms)
        SEEN.update(["cancel"])

    @rule()
    def reconcile_fills(self) -> None:
        """The venue's list of all fills: whatever was missed is booked by it."""
        book_fills(account_id=self.world.account.pk, venue="desk", fills=self.venue.fills_since(0))
        for name, order in self.venue.book.items():
            one = self.orders[name]
            for fill in order.fills:
                if fill.trade_id not in one.booked:
                    one.booked[fill.trade_id] = fill
                    if one.status in ENDED and not one.reducing:
                        self.unpromised += fill.fill.quantity * fill.fill.price
            if one.filled == one.quantity:
                one.status = "FILLED"
            elif one.booked and one.status not in ENDED:
                one.status = "PARTIALLY_FILLED"

    # --- people and processes -----------------------------------------------------------------------------------------

    @rule(state=st.sampled_from([TradingState.ACTIVE, TradingState.ACTIVE, TradingState.REDUCING, TradingState.HALTED]))
    def set_state(self, state: TradingState) -> None:
        try:
            set_trading_state(account_id=self.world.account.pk, to_state=state, set_by="tester", reason="a test")
        except StateRefused:
            SEEN.update(["resume refused"])

    @rule()
    def restart(self) -> None:
        """Nothing that matters lives in our processes."""
        old = self.world
        account = Account.objects.select_related("session__epoch").get(pk=old.account.pk)
        self.world = World(account.session, account, old.version, old.instruments, old.counter, old.entries)

    def _pick(self, pick: int) -> Expected:
        names = list(self.orders)
        return self.orders[names[pick % len(names)]]

    # --- what must be true after every step ---------------------------------------------------------------------------

    @invariant()
    def the_books_agree_with_themselves(self) -> None:
        if hasattr(self, "world"):
            books_agree(self.world)

    @invariant()
    def the_books_agree_with_the_reference(self) -> None:
        if not hasattr(self, "world"):
            return
        rows = {row.client_order_id: row for row in Order.objects.filter(account=self.world.account)}
        for name, one in self.orders.items():
            row = rows.get(name)
            assert (row is None) is (one.status == "WAITING"), (one, row)
            if row is not None:
                assert (row.status, row.filled_qty) == (one.status, one.filled), (row.status, one)
        assert self.world.cash() == D(100_000) - sum((one.paid for one in self.orders.values()), D(0))
        held = sum((row.quantity for row in Position.objects.filter(account=self.world.account)), D(0))
        assert held == sum((-one.filled if one.reducing else one.filled for one in self.orders.values()), D(0))

    @invariant()
    def nothing_is_sent_twice_and_no_limit_is_passed(self) -> None:
        if not hasattr(self, "world"):
            return
        assert all(count == 1 for count in self.venue.requests.values())
        assert set(self.venue.requests) <= set(self.orders)
        assert self.world.state.exposure <= self.limit + self.unpromised
        waiting = {name for name, one in self.orders.items() if one.status not in ENDED}
        active = Reservation.objects.filter(account=self.world.account, active=True)
        assert set(active.values_list("client_order_id", flat=True)) == waiting


def test_whatever_happens_in_whatever_order_the_books_agree() -> None:
    with connection.cursor() as cursor:  # hypothesis thinks between two statements of one long transaction
        cursor.execute("SET LOCAL idle_in_transaction_session_timeout = 0")
    run_state_machine_as_test(
        Orders,
        settings=settings(
            max_examples=EXAMPLES,
            stateful_step_count=STEPS,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
    sys.stdout.write(f"{dict(SEEN)}\n")
    if LONG:
        assert SEEN["examples"] >= EXAMPLES
        assert {"entry approved", "exit approved", "sent: ACCEPTED", "sent: UNKNOWN", "cancel"} <= SEEN.keys()
