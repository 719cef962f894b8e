"""Equity at many closes at once is what adding the positions' worth gives, to the last place."""

from __future__ import annotations

from decimal import Decimal

from hypothesis import given, settings
from hypothesis import strategies as st

from apps.engine.desk.valuing import Valued, equity_at
from apps.engine.money import total
from apps.engine.portfolio import worth


@st.composite
def holdings(draw: st.DrawFn) -> list[Valued]:
    minutes = draw(st.integers(1, 5))
    found = []
    for _ in range(draw(st.integers(1, 4))):
        quantity = Decimal(draw(st.integers(1, 10**12))).scaleb(-draw(st.integers(-2, 12)))
        ticks = st.lists(st.integers(1, 10**12), min_size=minutes, max_size=minutes)
        found.append(Valued(quantity, draw(st.integers(0, 12)), draw(ticks)))
    return found


@settings(deadline=None)
@given(cash=st.decimals(-(10**9), 10**9, places=18), held=holdings())
def test_equity_is_cash_and_the_worth_of_every_position(cash: Decimal, held: list[Valued]) -> None:
    names = [str(number) for number in range(len(held))]
    quantities = [(name, row.quantity) for name, row in zip(names, held, strict=True)]
    slowly = []
    for minute in range(len(held[0].closes)):
        marks = {
            name: Decimal(row.closes[minute]).scaleb(-row.price_decimals) for name, row in zip(names, held, strict=True)
        }
        slowly.append(total([cash, worth(quantities, marks)[0]]))
    assert equity_at(cash, held) == slowly
