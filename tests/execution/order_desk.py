"""The desk of the order machine: one account, what is done with it, and what its books must say after every step."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any, ClassVar, Final

from django.db import transaction
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant

from apps.bus import failpoints
from apps.execution.services import submit_order, sync_order
from apps.portfolio.models import Account
from apps.risk.models import OrderIntent, RiskDecision, RiskLimits, TradingState
from apps.signals.models import Signal
from tests.execution.at_a_glance import Glance, books_at_a_glance
from tests.execution.books import books_agree
from tests.execution.machine import ENDED, SYMBOLS, DeskVenue, Expected
from tests.worlds import World, fresh, open_world, stale

D = Decimal
EXPOSURE_MAX: Final = D("0.05")  # two orders of 2 040 fit, a third does not
UNSENT: Final = ("WAITING", "INITIALIZED")
STARTS: Final = ("approved", "sent", "filled", "filled")

SEEN: Counter[str] = Counter()
"""What happened in all examples together: a proof that met nothing would be none."""
MUST_BE_MET: Final = frozenset({
    "entry approved", "entry denied", "exit approved", "exit denied", "cancel", "resume refused",
    "sent: ACCEPTED", "sent: UNKNOWN", "sent: SUBMITTING", "sent: REJECTED", "sent: EXPIRED", "sent: DENIED",
    "died at risk.before_commit", "died at sender.before_submitting", "died at sender.after_submitting",
    "died at sender.after_reply", "nonsense: symbol", "nonsense: price", "nonsense: quantity", "a fill of a stranger",
})  # fmt: skip


def dies_at(point: str, action: Callable[[], Any]) -> bool:
    """Do it in a process that ends at this point of failure, if it comes there: whether it did."""
    failpoints.arm(f"{point}:1:raise" if point else "")
    try:
        action()
    except failpoints.FailpointReached:
        SEEN.update([f"died at {point}"])
        return True
    finally:
        failpoints.arm("")
    return False


class OrderDesk(RuleBasedStateMachine):
    """One account with two symbols, a venue, and per order what our books must say of it."""

    first: ClassVar[World]
    """Made once. What an example does to its rows is rolled back."""
    world: World
    glance: Glance

    @classmethod
    def make_world(cls) -> None:
        cls.first = open_world(SYMBOLS)
        RiskLimits.objects.filter(account=cls.first.account).update(exposure_max=EXPOSURE_MAX, open_orders_symbol_max=3)

    @initialize(starts=st.lists(st.sampled_from(STARTS), max_size=2))
    def begin(self, starts: Sequence[str]) -> None:
        """`starts` are orders that are there before the first step: else few examples would come as far as an exit."""
        SEEN.update(["examples"])
        self.savepoint = transaction.savepoint()
        first = self.first
        self.world = World(first.session, first.account, first.version, first.instruments, itertools.count(1))
        self.venue = DeskVenue()
        self.only_the_venue = False
        self.terms = dict.fromkeys(SYMBOLS, "as it was")
        self.strangers = 0
        self.orders: dict[str, Expected] = {}
        self.raised: set[tuple[int, int]] = set()
        self.now_ms = 1_800_000_000_000
        self.limit = D(0)
        self.unpromised = D(0)
        self.glance = self._look()
        for symbol, start in zip(SYMBOLS, starts, strict=False):
            self._start(symbol, start)

    def _start(self, symbol: str, start: str) -> None:
        one = self._decide(self.world.entry_signal(symbol), fresh, "")
        assert one is not None
        if start == "approved":
            return
        self._send(one, how="clear", feed=fresh)
        if start == "filled":
            self.venue.fill(one.client_order_id, one.quantity, D("0.5"))
            sync_order(order_id=self._look().ids[one.client_order_id], venue=self.venue, now_ms=self.now_ms)
            one.told(self.venue, self.now_ms)

    def teardown(self) -> None:
        if not hasattr(self, "savepoint"):
            return
        try:
            books_agree(self.world)
        finally:
            transaction.savepoint_rollback(self.savepoint)

    def _decide(self, signal: Signal, feed: Any, denied_for: str) -> Expected | None:
        """The order to be sent, if it is approved."""
        decision = self.world.decide(signal, feed=feed)
        assert decision is not None
        assert self.world.decide(signal) is None
        assert not denied_for or denied_for in decision.reasons, decision.sentence
        intent = OrderIntent.objects.filter(decision=decision).select_related("instrument").first()
        assert (intent is not None) is (decision.verdict == RiskDecision.Verdict.APPROVED)
        SEEN.update([f"{'exit' if decision.signal.position_id else 'entry'} {decision.verdict}"])
        if intent is None:
            assert decision.reasons
            return None
        if not intent.reducing:
            assert decision.trading_state == TradingState.ACTIVE
            self.limit = max(self.limit, EXPOSURE_MAX * decision.equity)
            assert decision.exposure_after <= EXPOSURE_MAX * decision.equity
        one = self.orders[intent.client_order_id] = Expected(
            intent.client_order_id, intent.pk, intent.instrument.symbol, intent.reducing, intent.quantity,
            intent.limit_price, intent.ts_event, intent.position_id, int(intent.created_at.timestamp() * 1000),
        )  # fmt: skip
        return one

    def _send(self, one: Expected, *, how: str, feed: Any, old: bool = False, dies: str = "") -> None:
        """Also what was sent before: nothing may happen then. The process may end on the way."""
        now_ms = one.created_ms + (2_500 if old else 0)
        self.venue.how = how

        def send() -> None:
            submit_order(intent_id=one.intent_id, now_ms=now_ms, feed=feed, venue=self.venue)

        died = dies_at(f"sender.{dies}" if dies else "", send)
        refused = self._refused(one, old=old, feed=feed)
        if one.status not in UNSENT or refused:
            assert not died
            one.status = refused if one.status in UNSENT else one.status
            return
        if died and dies == "before_submitting":
            return
        if died:  # its message comes again, and must not lead to a second order
            send()
        self._replaced_by(one, now_ms)
        answered = {"clear": "ACCEPTED", "rejected": "REJECTED"}.get(how, "UNKNOWN")
        one.status = "SUBMITTING" if died else answered

    def _refused(self, one: Expected, *, old: bool, feed: Any) -> str:
        """The status of an order that is looked at once more and does not leave; empty if it does."""
        state = self.glance.trading_state
        if state == "HALTED" or (state == "REDUCING" and not one.reducing):
            return "DENIED"
        if one.reducing:
            return "INITIALIZED" if feed is stale else ""
        return "EXPIRED" if old else "DENIED" if feed is stale else ""

    def _replaced_by(self, exit_order: Expected, now_ms: int) -> None:
        """An exit takes back entries of its symbol that rest."""
        for one in self.orders.values():
            same = one.symbol == exit_order.symbol and not one.reducing
            if exit_order.reducing and same and one.alive and one.ts_event + 1_000 <= exit_order.ts_event:
                one.cancel_asked = True
                self.unpromised += one.told(self.venue, now_ms)

    def restart(self) -> None:
        """Nothing that matters lives in our processes."""
        old = self.world
        account = Account.objects.select_related("session__epoch").get(pk=old.account.pk)
        self.world = World(account.session, account, old.version, old.instruments, old.counter, old.entries)

    @invariant()
    def the_books_agree(self) -> None:
        """With themselves, with the reference, and with the limit; nothing was sent twice."""
        if not hasattr(self, "world"):
            return
        if self.only_the_venue:  # none of our rows has changed
            self.only_the_venue = False
            return
        found = self.glance = self._look()
        expected = {one.client_order_id: one for one in self.orders.values()}
        sent = {name: (one.status, one.filled) for name, one in expected.items() if one.status != "WAITING"}
        assert found.orders == sent, {name: (found.orders.get(name), sent.get(name)) for name in expected}
        assert found.cash == D(100_000) - sum((one.paid for one in self.orders.values()), D(0))
        assert found.held == sum((-one.filled if one.reducing else one.filled for one in self.orders.values()), D(0))
        assert all(count == 1 for count in self.venue.requests.values())
        assert set(self.venue.requests) <= set(self.orders)
        assert found.exposure <= self.limit + self.unpromised
        assert found.promises == {name for name, one in self.orders.items() if one.status not in ENDED}

    def _look(self) -> Glance:
        return books_at_a_glance(self.world.account.pk)
