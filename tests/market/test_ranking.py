"""The choice of symbols is a function of the rule and of what the exchange tells."""

from __future__ import annotations

from collections.abc import Collection
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apps.market.services.ranking import FIXED, MOVEMENT, TURNOVER, Candidate, Choice, Criteria, choose


def listed(symbol: str, turnover: Any = "100", movement: Any = "0.01", **fields: Any) -> Candidate:
    figures = [None if value is None else Decimal(value) for value in (turnover, movement)]
    return Candidate(**{
        "symbol": symbol, "quote_asset": "USDT", "tradable": True, "turnover": figures[0], "movement": figures[1],
        **fields,
    })  # fmt: skip


MARKET = [
    listed("AUSDT", "500", "-0.09"),
    listed("BUSDT", "400", "0.02"),
    listed("CUSDT", "300", "0.05"),
    listed("DUSDT", "200", "0.02"),
    listed("EUSDT", "100", "-0.02"),
    listed("FUSDT", None, None),
    listed("GUSDT", "900", "0.5", tradable=False),
    listed("HUSDC", "900", "0.5", quote_asset="USDC"),
]


def rule(mode: str = TURNOVER, count: int = 2, **fields: Any) -> Criteria:
    return Criteria(mode, count, "USDT", **fields)


def chosen(criteria: Criteria, followed: Collection[str] = (), **fields: Any) -> list[str]:
    return sorted(choose(criteria, MARKET, followed=followed, held=fields.get("held", {})).symbols)


def why(criteria: Criteria, symbol: str, followed: Collection[str] = (), **fields: Any) -> str:
    choice = choose(criteria, MARKET, followed=followed, held=fields.get("held", {}))
    return next(f"{row.verdict}: {row.why}" for row in choice.verdicts if row.symbol == symbol)


@pytest.mark.parametrize(
    ("criteria", "symbols"),
    [
        (rule(TURNOVER, 2), ["AUSDT", "BUSDT"]),
        (rule(MOVEMENT, 2), ["AUSDT", "CUSDT"]),  # a fall moves as much as a rise
        (rule(MOVEMENT, 3), ["AUSDT", "BUSDT", "CUSDT"]),  # equal movement: the greater turnover
        (rule(TURNOVER, 9), ["AUSDT", "BUSDT", "CUSDT", "DUSDT", "EUSDT"]),
        (rule(TURNOVER, 9, turnover_min=Decimal(300)), ["AUSDT", "BUSDT", "CUSDT"]),
        (rule(TURNOVER, 1, always=frozenset({"EUSDT"})), ["AUSDT", "EUSDT"]),
        (rule(TURNOVER, 1, never=frozenset({"AUSDT"})), ["BUSDT"]),
        (rule(TURNOVER, 1, always=frozenset({"FUSDT", "GUSDT", "HUSDC", "NOSUCH"})), ["AUSDT", "FUSDT"]),
        (rule(FIXED, 0, always=frozenset({"EUSDT", "AUSDT", "GUSDT"})), ["AUSDT", "EUSDT"]),
    ],
)
def test_the_rule_chooses(criteria: Criteria, symbols: list[str]) -> None:
    assert chosen(criteria) == symbols
    backwards = choose(criteria, MARKET[::-1], followed=[], held={})
    assert sorted(backwards.symbols) == symbols  # the order of the exchange's answer means nothing


def test_a_followed_symbol_stays_until_it_has_fallen_well_below() -> None:
    criteria = rule(TURNOVER, 1)
    assert chosen(criteria, followed=["CUSDT"]) == ["AUSDT", "CUSDT"]  # rank 3 of 1 + 2
    assert chosen(criteria, followed=["DUSDT"]) == ["AUSDT"]
    assert rule(TURNOVER, 50).rank_kept == 60


def test_what_trading_holds_is_never_let_go() -> None:
    held = {"EUSDT": "an open position needs its prices", "GONE": "an open order needs its prices"}
    assert chosen(rule(TURNOVER, 1), held=held) == ["AUSDT", "EUSDT", "GONE"]
    assert chosen(rule(TURNOVER, 1, never=frozenset({"EUSDT"})), held=held) == ["AUSDT", "EUSDT", "GONE"]


@pytest.mark.parametrize(
    ("symbol", "words"),
    [
        ("AUSDT", "followed: rank 1 by turnover, 1 are wanted"),
        ("CUSDT", "kept: rank 2 by turnover, stays down to rank 3"),
        ("DUSDT", "left out: rank 3 by turnover, 1 are wanted"),
        ("EUSDT", "followed: the rule says always"),
        ("BUSDT", "left out: the rule says never"),
        ("FUSDT", "left out: the exchange tells no turnover"),
        ("GUSDT", "left out: the exchange does not let it trade now"),
        ("HUSDC", "left out: quoted in USDC, the account holds USDT"),
        ("NOSUCH", "held: an open position needs its prices; otherwise: the exchange does not list it"),
    ],
)
def test_every_verdict_says_why(symbol: str, words: str) -> None:
    criteria = rule(TURNOVER, 1, always=frozenset({"EUSDT"}), never=frozenset({"BUSDT"}))
    held = {"NOSUCH": "an open position needs its prices"}
    assert why(criteria, symbol, followed=["CUSDT"], held=held) == words


def test_rows_hold_those_near_the_choice_with_exact_figures() -> None:
    many = [listed(f"C{number:03}USDT", str(1000 - number)) for number in range(100)]
    criteria = rule(TURNOVER, 5, never=frozenset({"C090USDT"}))
    choice = choose(criteria, many, followed=["C050USDT"], held={})
    rows = choice.rows(criteria, ["C050USDT"])
    assert [row["rank"] for row in rows[:17]] == list(range(1, 18))
    assert [row["symbol"] for row in rows[17:]] == ["C050USDT", "C090USDT"]
    assert rows[0] == {
        "symbol": "C000USDT", "rank": 1, "turnover": "1000", "movement": "0.01", "verdict": "followed",
        "why": "rank 1 by turnover, 5 are wanted",
    }  # fmt: skip


SYMBOLS = st.sampled_from([f"{letter}USDT" for letter in "ABCDEFGHIJKLMNOP"])
CANDIDATES = st.lists(
    st.builds(
        listed,
        SYMBOLS,
        st.none() | st.integers(0, 5).map(str),
        st.none() | st.sampled_from(["-0.1", "0", "0.1"]),
        tradable=st.booleans(),
        quote_asset=st.sampled_from(["USDT", "USDC"]),
    ),
    unique_by=lambda row: row.symbol,
)
CRITERIA = st.builds(
    Criteria,
    st.sampled_from([FIXED, TURNOVER, MOVEMENT]),
    st.integers(1, 6),
    st.just("USDT"),
    st.sampled_from([Decimal(0), Decimal(2)]),
    st.frozensets(SYMBOLS, max_size=3),
    st.frozensets(SYMBOLS, max_size=3),
)


@given(CRITERIA, CANDIDATES, st.sets(SYMBOLS), st.sets(SYMBOLS, max_size=2), st.randoms(use_true_random=False))
def test_a_choice_keeps_its_promises_whatever_the_market(
    criteria: Criteria, market: list[Candidate], followed: set[str], held: set[str], dice: Any
) -> None:
    reasons = dict.fromkeys(held, "held")
    choice = choose(criteria, market, followed=followed, held=reasons)
    shuffled = list(market)
    dice.shuffle(shuffled)
    again: Choice = choose(criteria, shuffled, followed=followed, held=reasons)
    assert again == choice  # the order of the exchange's answer means nothing
    assert held <= choice.symbols
    fitting = {row.symbol for row in market if row.tradable and row.quote_asset == "USDT"} - criteria.never
    assert choice.symbols <= fitting | held
    assert criteria.always & fitting <= choice.symbols
    by_rank = choice.symbols - criteria.always - held
    assert len(by_rank) <= (0 if criteria.mode == FIXED else criteria.rank_kept)
    assert len(by_rank - followed) <= criteria.count
    settled = choose(criteria, market, followed=choice.symbols, held=reasons)
    assert settled.symbols == choice.symbols  # the same market gives the same choice again
