"""Orders, money and risk under every interleaving that hypothesis finds, on real PostgreSQL beside a small reference.

`make test` tries a few examples; `make prove-orders` 2,000 (docs/risk.md).
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterable
from decimal import Decimal
from typing import Any

import pytest
from django.db import connection
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule, run_state_machine_as_test

from apps.execution.models import OrderAnomaly
from apps.execution.services import CancelRefused, book_fills, cancel_order, sync_order
from apps.execution.services.anomalies import resolve_anomaly
from apps.execution.services.canceling import withdraw_entries
from apps.execution.venues.base import VenueStatus
from apps.market.models import Instrument
from apps.portfolio.models import Position
from apps.risk.models import RiskDecision, TradingState
from apps.risk.services import StateRefused, set_trading_state
from tests.execution.machine import ENDED, SYMBOLS, Expected
from tests.execution.order_desk import MUST_BE_MET, SEEN, UNSENT, OrderDesk, dies_at
from tests.worlds import fresh, stale

D = Decimal
EXAMPLES = int(os.environ.get("ORDER_EXAMPLES", "10"))
STEPS = int(os.environ.get("ORDER_STEPS", "15"))
LONG = EXAMPLES > 50
FULL = EXAMPLES >= 500
pytestmark = [pytest.mark.django_db, pytest.mark.timeout(0 if LONG else 600)]

PICK = st.integers(0, 1_000)
DEATHS = ("before_submitting", "after_submitting", "after_reply")
HOWS = ("clear", "clear", "clear", "rejected", "lost", "unanswered", "late")
AT_ONCE = ("", *HOWS, *DEATHS)
TERMS: dict[str, dict[str, Any]] = {
    "as it was": {},
    "delisted": {"tradable": False},
    "smallest order 5,000": {"notional_min": D(5_000)},
}
"""What the exchange may change about a symbol, and the reason for which an entry is denied then."""
DENIED_FOR = {"as it was": "", "delisted": "SYMBOL", "smallest order 5,000": "MIN_NOTIONAL"}


class Orders(OrderDesk):
    """One account with two symbols. Every rule does one thing to us or to the venue; the books must agree then."""

    # --- signals and decisions ----------------------------------------------------------------------------------------

    @rule(
        symbol=st.sampled_from(SYMBOLS),
        feed=st.sampled_from([fresh, fresh, fresh, stale]),
        dies=st.sampled_from(["", "", "", "risk.after_lock", "risk.before_commit"]),
        how=st.sampled_from(AT_ONCE),
    )
    def signal(self, symbol: str, feed: Any, dies: str, how: str) -> None:
        """Decided on, and if it is approved mostly sent at once."""
        signal = self.world.entry_signal(symbol)
        if dies:
            assert dies_at(dies, lambda: self.world.decide(signal, feed=feed))
            assert not RiskDecision.objects.filter(signal=signal).exists()
        one = self._decide(signal, feed, "STALE_FEED" if feed is stale else DENIED_FOR[self.terms[symbol]])
        self._send_at_once(one, how)

    def _send_at_once(self, one: Expected | None, how: str) -> None:
        if one is not None and how:
            self.glance = self._look()
            died = how in DEATHS
            self._send(one, how="clear" if died else how, feed=fresh, dies=how if died else "")
            SEEN.update([f"sent: {one.status}"])

    @precondition(lambda self: self._free_positions())
    @rule(
        pick=PICK,
        feed=st.sampled_from([fresh, fresh, stale]),
        dies=st.sampled_from(["", "", "", "risk.before_commit"]),
        how=st.sampled_from(AT_ONCE),
    )
    def exit(self, pick: int, feed: Any, dies: str, how: str) -> None:
        """It passes whatever the limits and the exchange say. On a stale feed it is held, and decided on later."""
        free = self._free_positions()
        pk, attempts = free[pick % len(free)]
        position = Position.objects.select_related("instrument").get(pk=pk)
        self.raised.add((pk, attempts))
        signal = self.world.exit_signal(position, instrument=position.instrument)
        if dies:
            assert dies_at(dies, lambda: self.world.decide(signal, feed=fresh))
        if feed is stale and self.glance.trading_state != "HALTED":
            assert self.world.decide(signal, feed=stale) is None
        self._send_at_once(self._decide(signal, fresh, ""), how)

    def _free_positions(self) -> list[tuple[int, int]]:
        return [one for one in self.glance.open if one not in self.raised]

    # --- sending ------------------------------------------------------------------------------------------------------

    @precondition(lambda self: self.orders)
    @rule(
        pick=PICK,
        how=st.sampled_from(HOWS),
        old=st.integers(0, 9),
        feed=st.sampled_from([fresh, fresh, fresh, fresh, stale]),
        dies=st.sampled_from(["", "", "", "", *DEATHS]),
    )
    def submit(self, pick: int, how: str, old: int, feed: Any, dies: str) -> None:
        """Also of what was sent before: nothing may happen then. The process that sends may end on the way."""
        unsent = [one for one in self.orders.values() if one.status in UNSENT]
        one = unsent[pick % len(unsent)] if unsent and pick % 5 else self._pick(pick)
        before = one.status
        self._send(one, how=how, feed=feed, old=old == 0, dies=dies)
        if before in UNSENT:
            SEEN.update([f"sent: {one.status}"])

    # --- the venue ----------------------------------------------------------------------------------------------------

    @precondition(lambda self: self.venue.on_its_way)
    @rule(pick=PICK)
    def arrive(self, pick: int) -> None:
        self.only_the_venue = True
        names = self._in_order(self.venue.on_its_way)
        self.venue.arrive(names[pick % len(names)])

    @precondition(lambda self: self._fillable())
    @rule(
        pick=PICK,
        tenths=st.sampled_from([1, 3, 5, 10, 10]),
        ticks=st.integers(4_900, 5_100),
        coin=st.sampled_from(["USDT", "USDT", "MX"]),
    )
    def fill(self, pick: int, tenths: int, ticks: int, coin: str) -> None:
        """A part or the rest of an order, also one that was canceled or has expired there a moment ago."""
        self.only_the_venue = True
        names = self._fillable()
        name = names[pick % len(names)]
        order, one = self.venue.book[name], self.orders[name]
        most = order.left if not one.reducing else min(order.left, self._sellable(one))
        quantity = (most * tenths / 10).quantize(D("0.01"))
        if quantity > 0:
            price = D(ticks).scaleb(-4)
            self.venue.fill(name, quantity, min(price, one.limit_price) if not one.reducing else price, coin)

    def _fillable(self) -> list[str]:
        return self._in_order(
            name
            for name, order in self.venue.book.items()
            if order.left > 0 and order.status is not VenueStatus.REJECTED
        )

    def _in_order(self, names: Iterable[str]) -> list[str]:
        """As they were decided on: an exit's id follows from its position's, which no two examples share."""
        wanted = set(names)
        return [name for name in self.orders if name in wanted]

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
        self.only_the_venue = True
        names = self._working()
        self.venue.book[names[pick % len(names)]].status = status

    def _working(self) -> list[str]:
        return self._in_order(name for name, order in self.venue.book.items() if order.working)

    @precondition(lambda self: self.orders)
    @rule(symbol=st.sampled_from(SYMBOLS), terms=st.sampled_from(["as it was", *TERMS]))
    def change_terms(self, symbol: str, terms: str) -> None:
        """The exchange takes a symbol off its list or raises its smallest order; what is open may still be sold."""
        self.terms[symbol] = terms
        ours = Instrument.objects.filter(pk=self.world.instruments[symbol].pk)
        ours.update(**{"tradable": True, "notional_min": D(1), **TERMS[terms]})

    # --- asking -------------------------------------------------------------------------------------------------------

    @precondition(lambda self: self.orders)
    @rule(
        pick=PICK,
        later_ms=st.sampled_from([0, 1_000, 5_000, 60_000]),
        how=st.sampled_from(["", "", "silent", "doubled"]),
    )
    def ask(self, pick: int, later_ms: int, how: str) -> None:
        one = self._pick(pick)
        order_id = self.glance.ids.get(one.client_order_id)
        if order_id is None:
            return
        self.now_ms += later_ms
        self.venue.silent, self.venue.doubled = how == "silent", how == "doubled"
        sync_order(order_id=order_id, venue=self.venue, now_ms=self.now_ms)
        self.venue.silent = self.venue.doubled = False
        if how != "silent" and one.status not in ("DENIED", "INITIALIZED"):
            self.unpromised += one.told(self.venue, self.now_ms)
        elif how == "silent" and one.status == "SUBMITTING":
            one.status = "UNKNOWN"

    @precondition(lambda self: self._shown())
    @rule(pick=PICK, how=st.sampled_from(["symbol", "price", "quantity"]))
    def ask_and_hear_nonsense(self, pick: int, how: str) -> None:
        """Beside its fills, the list has one that cannot be ours."""
        names = self._shown()
        one = self.orders[names[pick % len(names)]]
        self.venue.distorted = how
        sync_order(order_id=self.glance.ids[one.client_order_id], venue=self.venue, now_ms=self.now_ms)
        self.venue.distorted = ""
        self.unpromised += one.told(self.venue, self.now_ms)
        after = self._look()
        assert after.anomalies - self.glance.anomalies in (0, 1)
        assert after.trading_state != "ACTIVE" or after.anomalies == self.glance.anomalies
        SEEN.update([f"nonsense: {how}"])

    @precondition(lambda self: self.venue.requests)
    @rule(again=st.booleans())
    def hear_of_a_stranger(self, again: bool) -> None:
        """A fill of an order that nobody here sent, told once or again: kept once, booked nowhere, nothing opens."""
        self.strangers += 0 if again and self.strangers else 1
        name = f"stranger-{self.strangers}"
        told = self.venue.stranger(name)
        new = not OrderAnomaly.objects.filter(client_order_id=name).exists()
        assert book_fills(account_id=self.world.account.pk, venue="desk", fills=[(name, told)]) == 0
        after = self._look()
        assert after.anomalies == self.glance.anomalies + new
        assert not new or after.trading_state != "ACTIVE"
        SEEN.update(["a fill of a stranger"])

    @precondition(lambda self: self.glance.anomalies)
    @rule()
    def resolve_anomalies(self) -> None:
        for row in OrderAnomaly.objects.filter(account=self.world.account, resolved_at=None):
            resolve_anomaly(anomaly_id=row.pk, by="tester", resolution="the venue was wrong")
        self._set_state(TradingState.ACTIVE)

    def _shown(self) -> list[str]:
        return self._in_order(
            name for name, order in self.venue.book.items() if order.fills and self.orders[name].status != "DENIED"
        )

    @precondition(lambda self: self.orders)
    @rule(pick=PICK, silent=st.booleans())
    def cancel(self, pick: int, silent: bool) -> None:
        one = self._pick(pick)
        order_id = self.glance.ids.get(one.client_order_id)
        if order_id is None:
            return
        self.venue.silent = silent
        try:
            cancel_order(order_id=order_id, reason="a test", by="tester", venue=self.venue, now_ms=self.now_ms)
        except CancelRefused:
            assert one.status in ENDED
            return
        finally:
            self.venue.silent = False
        one.cancel_asked = True
        if one.status in ("INITIALIZED", "SUBMITTING") and (silent or one.status == "INITIALIZED"):
            one.status = "CANCELED" if one.status == "INITIALIZED" else "UNKNOWN"
        elif not silent:
            self.unpromised += one.told(self.venue, self.now_ms)
        SEEN.update(["cancel"])

    @precondition(lambda self: self.venue.book)
    @rule()
    def withdraw(self) -> None:
        """What the sweep does: nothing goes on opening at the venue when the state opens nothing any more."""
        withdrawn = set(withdraw_entries(now_ms=self.now_ms))
        assert not withdrawn or self.glance.trading_state != "ACTIVE"
        for one in self.orders.values():
            if self.glance.ids.get(one.client_order_id) in withdrawn:
                one.cancel_asked = True
                sync_order(order_id=self.glance.ids[one.client_order_id], venue=self.venue, now_ms=self.now_ms)
                self.unpromised += one.told(self.venue, self.now_ms)

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

    @precondition(lambda self: self.orders)
    @rule(state=st.sampled_from([TradingState.ACTIVE, TradingState.ACTIVE, TradingState.REDUCING, TradingState.HALTED]))
    def set_state(self, state: TradingState) -> None:
        self._set_state(state)

    def _set_state(self, state: TradingState) -> None:
        try:
            set_trading_state(account_id=self.world.account.pk, to_state=state, set_by="tester", reason="a test")
        except StateRefused:
            SEEN.update(["resume refused"])

    @rule()
    def end_every_process(self) -> None:
        self.restart()

    def _pick(self, pick: int) -> Expected:
        names = list(self.orders)
        return self.orders[names[pick % len(names)]]

    # --- what must be true after every step ---------------------------------------------------------------------------


def test_whatever_happens_in_whatever_order_the_books_agree() -> None:
    with connection.cursor() as cursor:  # hypothesis thinks between two statements of one long transaction
        cursor.execute("SET LOCAL idle_in_transaction_session_timeout = 0")
    Orders.make_world()
    logging.getLogger("apps").setLevel(logging.CRITICAL + 1)  # thousands of halts are no news here
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
    assert SEEN["examples"] >= min(EXAMPLES, 10)
    if FULL:
        assert SEEN["examples"] >= EXAMPLES
        assert SEEN.keys() >= MUST_BE_MET, MUST_BE_MET - SEEN.keys()
