"""Any sequence of fills, fees in any coin and corrections keeps every invariant and equals a plain computation."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from decimal import Decimal
from fractions import Fraction

import pytest
from django.db import connection, transaction
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from apps.engine.money import fee_of, notional
from apps.engine.portfolio import Fill, Leg, LegKind, Side
from apps.execution.models import Order
from apps.ops.verify.money_checks import MONEY_INVARIANTS, check_money
from apps.ops.verify.result import Check
from apps.portfolio.models import Account, LedgerEntry, Position
from apps.portfolio.selectors import ledger_balances
from apps.portfolio.services import (
    CorrectionRefused,
    EntryPlan,
    book_entry,
    book_exit,
    lock_account,
    post_correction,
    save_account,
)
from tests import factories
from tests.factories import START_MS
from tests.worlds import World, open_world

D = Decimal
COINS = ("USDT", "XRP", "MX")
PLAN = EntryPlan(1, "1-0", D(2), D(4), 3_600_000)
pytestmark = pytest.mark.django_db


@dataclass
class Books:
    """A world in which money moves, and beside it the same in fractions, added up without a thought."""

    world: World
    order: Order
    number: int = 0
    positions: list[Position] = field(default_factory=list)
    owned: defaultdict[str, Fraction] = field(default_factory=lambda: defaultdict(Fraction))
    held: defaultdict[int, Fraction] = field(default_factory=lambda: defaultdict(Fraction))
    fees: Fraction = Fraction(0)  # those of quote and base, in quote
    taken: Fraction = Fraction(0)  # base fees that left positions, in quote
    added: Fraction = Fraction(0)

    def fill(
        self,
        side: Side,
        position: Position | None,
        quantity: Decimal,
        price: Decimal,
        coin: str,
        at_ms: int = START_MS,
    ) -> None:
        self.number += 1
        fee = fee_of(notional(quantity, price), D("0.001"))
        one = Fill(side, price, quantity, fee, coin, at_ms + self.number)
        with transaction.atomic():
            account = lock_account(self.world.account.pk)
            reference = f"trade:paper:{self.world.session.pk}-{self.number}"
            if side is Side.BUY:
                name = f"c{self.world.session.pk}-{self.number}" if position is None else position.opened_by
                position = book_entry(
                    account=account,
                    instrument=self.world.instruments["XRPUSDT"],
                    client_order_id=name,
                    reference=reference,
                    fill=one,
                    plan=PLAN,
                )
            else:
                assert position is not None
                book_exit(account=account, position=position, reference=reference, fill=one)
            account.sequence += 1
            factories.TradeFactory.create(
                trade_id=reference.rpartition(":")[2], order=self.order, position=position, sequence=account.sequence,
                side=side.value, price=price, quantity=quantity, fee=fee, fee_currency=coin,
                ts_event=one.ts_event,
            )  # fmt: skip
            save_account(account)
        self._follow(one, position.pk)
        self.positions = list(Position.objects.filter(account=self.world.account, status="open").order_by("pk"))

    def _follow(self, one: Fill, position: int) -> None:
        sign = 1 if one.side is Side.BUY else -1
        quantity, price, fee = Fraction(one.quantity), Fraction(one.price), Fraction(one.fee)
        self.owned["XRP"] += sign * quantity
        self.owned["USDT"] -= sign * quantity * price
        self.owned[one.fee_currency] -= fee
        self.held[position] += sign * quantity
        if one.fee_currency == "XRP":
            due = min(fee, quantity if sign > 0 else self.held[position])
            self.held[position] -= due
            self.taken += due * price
            fee *= price
        self.fees += fee if one.fee_currency != "MX" else 0

    def correct(self, amount: Decimal) -> None:
        with transaction.atomic():
            account = lock_account(self.world.account.pk)
            legs = [Leg(LegKind.CASH, "USDT", amount), Leg(LegKind.CAPITAL, "USDT", -amount)]
            post_correction(account=account, legs=legs, reason="a difference", by="mara", approved_by="oli")
            save_account(account)
        self.owned["USDT"] += Fraction(amount)
        self.added += Fraction(amount)

    def agree(self) -> None:
        account = Account.objects.get(pk=self.world.account.pk)
        check = check_money(self.world.session)
        assert check.ok, check.faults
        wanted = {coin: amount for coin, amount in self.owned.items() if amount}
        assert {coin: Fraction(amount) for coin, amount in ledger_balances(account).items()} == wanted
        rows = list(Position.objects.filter(account=account))
        assert {row.pk: Fraction(row.quantity) for row in rows} == dict(self.held)
        assert sum((Fraction(row.fees) for row in rows), Fraction(0)) == self.fees
        # What is owned in cash is what was there, what was gained, less what is tied up in positions.
        results = sum((Fraction(row.realized) - Fraction(row.cost) for row in rows), Fraction(0))
        in_quote = sum((Fraction(one.amount) for one in _fees_in("USDT", account)), Fraction(0))
        assert Fraction(account.cash) == 100_000 + self.added + results - self.taken - in_quote


def _fees_in(currency: str, account: Account) -> list[LedgerEntry]:
    return list(LedgerEntry.objects.filter(account=account, kind="fee", currency=currency))


def open_books(*symbols: str) -> Books:
    world = open_world(symbols or ("XRPUSDT",))
    signal = world.entry_signal()
    decision = factories.RiskDecisionFactory.create(
        signal=signal, account=world.account, limits=world.account.limits.get()
    )
    order = factories.OrderFactory.create(intent=factories.OrderIntentFactory.create(decision=decision))
    books = Books(world, order)
    books.owned["USDT"] = Fraction(100_000)
    return books


PRICES = st.integers(4_000, 6_000).map(lambda ticks: D(ticks).scaleb(-4))
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("enter"), st.integers(1, 9_999), PRICES, st.sampled_from(COINS)),
        st.tuples(st.just("add"), st.integers(1, 9_999), PRICES, st.sampled_from(COINS)),
        st.tuples(st.just("leave"), st.integers(1, 10_000), PRICES, st.sampled_from(COINS)),
        st.tuples(st.just("correct"), st.integers(-99_999, 99_999).filter(bool), PRICES, st.just("USDT")),
    ),
    max_size=12,
)


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS)
def test_any_sequence_of_fills_and_corrections_keeps_every_invariant(
    steps: list[tuple[str, int, Decimal, str]],
) -> None:
    books = open_books()
    for what, amount, price, coin in steps:
        newest = books.positions[-1] if books.positions else None
        if what == "correct":
            books.correct(D(amount).scaleb(-3))
        elif what != "leave":
            quantity = D(amount).scaleb(-1)
            books.fill(Side.BUY, newest if what == "add" else None, quantity, price, coin)
        elif newest is not None:
            part = newest.quantity if amount > 5_000 else (newest.quantity * amount / 10_000).quantize(D("1e-6"))
            if part:
                books.fill(Side.SELL, newest, part, price, coin)
    if steps:
        books.agree()


def test_a_correction_below_nothing_is_refused_whatever_was_traded_before() -> None:
    books = open_books()
    books.fill(Side.BUY, None, D(1_000), D("0.5"), "MX")
    with pytest.raises(CorrectionRefused, match="less than nothing"):
        books.correct(D(-100_000))
    books.agree()


DAMAGES = [
    ("legs", "UPDATE portfolio_ledgerentry SET amount = amount + 1 WHERE kind = 'venue' AND leg = 1"),
    ("cash", "UPDATE portfolio_account SET cash = cash + 0.000000000000000001"),
    ("cash", "UPDATE portfolio_ledgerentry SET currency = 'USDC' WHERE kind = 'cash' AND reference = 'deposit'"),
    ("cash is -", "UPDATE portfolio_account SET cash = -1"),
    ("position", "UPDATE portfolio_position SET quantity = quantity + 0.000001 WHERE status = 'open'"),
    ("cost", "UPDATE portfolio_position SET cost = 1 WHERE status = 'closed'"),
    ("XRP", "UPDATE portfolio_ledgerentry SET amount = amount * 2 WHERE kind = 'asset' AND currency = 'XRP'"),
    ("MX", "UPDATE execution_trade SET fee = fee * 2 WHERE fee_currency = 'MX'"),
    ("moved nothing", "UPDATE portfolio_correction SET number = number + 1"),
    ("no such trade", "UPDATE portfolio_ledgerentry SET reference = 'trade:paper:x' WHERE reference LIKE 'trade:%-1'"),
    ("a fee of", "UPDATE execution_trade SET fee_currency = 'MX' WHERE fee_currency = 'USDT'"),
]


@pytest.mark.parametrize(("words", "damage"), DAMAGES, ids=range(len(DAMAGES)))
def test_each_damage_to_the_books_is_found(words: str, damage: str) -> None:
    books = open_books()
    books.fill(Side.BUY, None, D(1_000), D("0.5"), "MX")
    books.fill(Side.SELL, books.positions[0], D(1_000), D("0.6"), "USDT")
    books.fill(Side.BUY, None, D(100), D("0.5"), "XRP")
    books.correct(D(2))
    books.agree()
    with connection.cursor() as cursor:
        cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
        for table in ("ledgerentry", "correction"):
            cursor.execute(f"ALTER TABLE portfolio_{table} DISABLE TRIGGER frozen")
        cursor.execute(damage)
    check = check_money(books.world.session)
    assert not check.ok
    assert any(words in fault for fault in check.faults), check.faults


def test_every_invariant_compares_something() -> None:
    books = open_books()
    books.fill(Side.BUY, None, D(1_000), D("0.5"), "MX")
    books.correct(D(2))
    for invariant in MONEY_INVARIANTS:
        check = Check("I6", "")
        invariant(check, books.world.account)
        assert check.compared, invariant.__name__
