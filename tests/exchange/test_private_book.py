"""The book by itself: money is kept whatever happens, and recorded trades fill what rests as the rules say."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apps.engine.instrument_specs import InstrumentSpec
from apps.engine.money import exact
from tests.exchange.helpers import START_MS, eventually, private_exchange, replay_of, rows_of
from workers.exchange.errors import ApiError
from workers.exchange.limits import Limits
from workers.exchange.private.accounts import FEE_ASSETS, Account
from workers.exchange.private.book import Book, Numbers, Through, Told
from workers.exchange.private.orders import BUY, ORDER_TYPES, SELL, ZERO, Deal, Order, Wish
from workers.exchange.private.terms import Top
from workers.exchange.private.wallet import BalanceChange

SPEC: Final = InstrumentSpec("BTCUSDT", "BTC", "USDT", 2, 3, maker_fee=Decimal("0.00021"), taker_fee=Decimal("0.00071"))
BALANCES: Final = {"USDT": Decimal(1_000), "BTC": Decimal(9), "MX": Decimal("0.05")}
FINAL: Final = {"FILLED", "CANCELED", "PARTIALLY_CANCELED"}


def _hundredths(low: int, high: int) -> st.SearchStrategy[Decimal]:
    return st.integers(low, high).map(lambda number: Decimal(number) / 100)


PRICES: Final = _hundredths(9_900, 10_100)
SIZES: Final = _hundredths(1, 300)
SIDES: Final = st.sampled_from([BUY, SELL])
TOPS: Final = st.builds(
    lambda bid, spread, bids, asks: Top(bid, bids, bid + spread, asks), PRICES, _hundredths(1, 100), SIZES, SIZES
)
STEPS: Final = st.lists(
    st.one_of(
        st.tuples(st.just("top"), TOPS),
        st.tuples(st.just("trade"), st.tuples(SIDES, PRICES, SIZES)),
        st.tuples(st.just("cancel"), st.integers(0, 20)),
        st.tuples(st.just("order"), st.tuples(SIDES, st.sampled_from(list(ORDER_TYPES)), PRICES, SIZES)),
    ),
    max_size=40,
)


class Recorder:
    """Keeps what a book tells."""

    def __init__(self) -> None:
        self.statuses: dict[str, list[str]] = {}
        self.deals: list[tuple[Order, Deal]] = []
        self.changes: list[BalanceChange] = []

    def told(self) -> Told:
        return Told(
            lambda order: self.statuses.setdefault(order.order_id, []).append(order.status),
            lambda order, deal: self.deals.append((order, deal)),
            self.changes.append,
        )


def _wish(side: int, kind: str, price: Decimal, size: Decimal) -> Wish:
    if kind != "MARKET":
        return Wish("BTCUSDT", side, kind, price, size)
    if side == BUY:
        return Wish("BTCUSDT", side, kind, amount=price * size)
    return Wish("BTCUSDT", side, kind, quantity=size)


def _play(book: Book, steps: Sequence[tuple[str, Any]]) -> None:
    top: Top | None = None
    for now_ms, (what, value) in enumerate(steps):
        if what == "top":
            top = value
            book.on_top("BTCUSDT", SPEC, value, now_ms)
        elif what == "trade":
            side, price, size = value
            book.on_trades("BTCUSDT", SPEC, [Through(side, price, size, now_ms)])
        elif what == "cancel":
            orders = book.open_orders()
            if value < len(orders):
                book.cancel(orders[value], now_ms)
        else:
            wish = _wish(*value)
            before = (dict(book.orders), [(one, book.wallet.free(one)) for one in book.wallet.assets])
            try:
                book.place(wish, SPEC, top, now_ms)
            except ApiError:  # not enough of something
                assert before == (dict(book.orders), [(one, book.wallet.free(one)) for one in book.wallet.assets])


@settings(max_examples=150, deadline=None)
@given(steps=STEPS, fee_asset=st.sampled_from(FEE_ASSETS))
def test_money_is_kept_whatever_happens(steps: list[tuple[str, Any]], fee_asset: str) -> None:
    recorder = Recorder()
    book = Book(Account("a", "k", "s", BALANCES, fee_asset=fee_asset), Numbers(0), recorder.told())
    _play(book, steps)
    _check_money(book, recorder)
    for order in book.open_orders():
        book.cancel(order, len(steps))
    assert all(not book.wallet.locked(asset) for asset in book.wallet.assets)
    for order_id, order in book.orders.items():
        assert order.executed == sum(deal.quantity for deal in order.deals)
        assert order.wish.amount or order.executed <= order.wish.quantity
        assert not order.wish.amount or order.executed_amount <= order.wish.amount
        assert recorder.statuses[order_id][0] == "NEW"
        assert [status in FINAL for status in recorder.statuses[order_id]].count(True) == 1
        if order.wish.quantity:
            assert (order.status == "FILLED") is (order.executed == order.wish.quantity)
    ids = [deal.trade_id for _, deal in recorder.deals] + list(book.orders)
    assert len(set(ids)) == len(ids)


@exact
def _check_money(book: Book, recorder: Recorder) -> None:
    """Every asset: what there was, what the fills moved and the fees took; locked is what open orders hold."""
    expected = dict(BALANCES)
    for order, deal in recorder.deals:
        sign = 1 if order.wish.side == BUY else -1
        expected["BTC"] += sign * deal.quantity
        expected["USDT"] -= sign * deal.amount
        expected[deal.fee_asset] -= deal.fee
        worse = deal.price > order.wish.price if sign == 1 else deal.price < order.wish.price
        assert order.wish.kind == "MARKET" or not worse
        assert deal.fee >= 0
    for asset, total in expected.items():
        assert book.wallet.free(asset) + book.wallet.locked(asset) == total
        held = sum((order.locked for order in book.open_orders() if order.lock_asset == asset), ZERO)
        assert book.wallet.locked(asset) == held
    last = {change.asset: (change.free, change.locked) for change in recorder.changes}
    assert last == {asset: (book.wallet.free(asset), book.wallet.locked(asset)) for asset in last}


@given(tops=st.lists(TOPS, min_size=1, max_size=5), sizes=st.lists(SIZES, min_size=1, max_size=6))
@settings(deadline=None)
def test_nobody_takes_more_of_a_top_than_stands_there(tops: list[Top], sizes: list[Decimal]) -> None:
    recorder = Recorder()
    book = Book(Account("a", "k", "s", {"USDT": Decimal(10**9)}), Numbers(0), recorder.told())
    for now_ms, top in enumerate(tops):
        before = len(recorder.deals)
        book.on_top("BTCUSDT", SPEC, top, now_ms)
        for size in sizes:
            book.place(Wish("BTCUSDT", BUY, "LIMIT", Decimal(200), size), SPEC, top, now_ms)
        new = [deal for _, deal in recorder.deals[before:]]
        taken = sum(deal.quantity for deal in new)
        if top not in tops[:now_ms][-1:]:
            assert taken <= top.ask_quantity
        assert {deal.price for deal in new if not deal.maker} <= {top.ask}


def test_fees_of_many_fills_never_cost_more_than_was_held_for_them() -> None:
    rate = Decimal("0.00071")
    book = Book(Account("a", "k", "s", BALANCES, rate, rate), Numbers(0), Recorder().told())
    order = book.place(Wish("BTCUSDT", BUY, "LIMIT", Decimal("100.01"), Decimal("0.03")), SPEC, None, now_ms=1)
    trade = Through(SELL, Decimal(100), Decimal("0.01"), 2)
    book.on_trades("BTCUSDT", SPEC, [trade] * 3)
    # 0.000710071 is rounded up three times, 0.002130213 once.
    assert [deal.fee for deal in order.deals] == [
        Decimal(f"0.{digits}") for digits in ("00071008",) * 2 + ("00071006",)
    ]
    assert (order.status, book.wallet.locked("USDT")) == ("FILLED", ZERO)


@pytest.mark.parametrize(
    ("side", "price", "trade", "filled"),
    [
        (BUY, "100", Through(SELL, Decimal("99.99"), Decimal(2), 5), "1"),
        (BUY, "100", Through(SELL, Decimal("99.99"), Decimal("0.4"), 5), "0.4"),
        (BUY, "100", Through(SELL, Decimal("100.00"), Decimal(2), 5), "0"),
        (BUY, "100", Through(BUY, Decimal("99.99"), Decimal(2), 5), "0"),
        (BUY, "100", Through(SELL, Decimal("99.99"), Decimal(2), 1), "0"),
        (SELL, "100", Through(BUY, Decimal("100.01"), Decimal(2), 5), "1"),
        (SELL, "100", Through(BUY, Decimal("100.00"), Decimal(2), 5), "0"),
        (SELL, "100", Through(SELL, Decimal("100.01"), Decimal(2), 5), "0"),
    ],
)
def test_a_trade_fills_what_it_passes_through_and_only_what_rested_then(
    side: int, price: str, trade: Through, filled: str
) -> None:
    book = Book(Account("a", "k", "s", BALANCES), Numbers(0), Recorder().told())
    order = book.place(Wish("BTCUSDT", side, "LIMIT", Decimal(price), Decimal(1)), SPEC, None, now_ms=1)
    book.on_trades("BTCUSDT", SPEC, [trade])
    assert order.executed == Decimal(filled)
    assert all((deal.maker, deal.price, deal.time_ms) == (True, Decimal(price), 5) for deal in order.deals)


def test_a_recording_moves_the_book_of_an_account(tmp_path: Path) -> None:
    rows = [
        f"BTCUSDT,{START_MS + 10},1,buy,100.00,1.000000",
        f"BTCUSDT,{START_MS + 20},2,sell,99.00,1.000000",
        f"BTCUSDT,{START_MS + 5_000},3,sell,95.00,0.250000",
        f"BTCUSDT,{START_MS + 6_000},4,sell,94.00,9.000000",
    ]
    limits = Limits(tick_seconds=0.01)
    with private_exchange(tmp_path, source=replay_of(rows), speed=50, limits=limits, started=False) as exchange:
        exchange.order(quantity="1", price="96")
        exchange.server.hub.clock.start()
        asyncio.run(eventually(lambda: exchange.account()["orders"][0]["status"] == "FILLED"))
    fills = rows_of(exchange.journal, "fill")
    # Trade 3 passes through the price with 0.25; it also leaves its seller's bid, and the ask stays above the order.
    assert [(row["p"], row["q"], row["maker"], row["t"] - START_MS) for row in fills] == [
        ("96", "0.25", True, 5_000),
        ("96", "0.75", True, 6_000),
    ]
