"""Properties that hold after every decision, for arbitrary runs of signals."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from apps.engine.desk.book import MarkSet
from apps.engine.money import to_money
from apps.portfolio.models import Account
from apps.portfolio.selectors import read_book
from apps.risk.models import OrderIntent, RiskLimits
from apps.risk.selectors import current_limits
from apps.risk.services import set_trading_state
from tests.worlds import TRIGGER_MS, open_world

D = Decimal
SYMBOLS = ("XRPUSDT", "ADAUSDT", "SOLUSDT")
STEPS = st.lists(
    st.tuples(
        st.sampled_from(SYMBOLS),
        st.integers(0, 5_000),  # event time
        st.integers(4_900, 5_100),  # price in ticks
        st.sampled_from(["signal"] * 8 + ["REDUCING", "ACTIVE", "HALTED"]),
    ),
    max_size=14,
)


@pytest.mark.django_db
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS)
def test_after_every_decision_exposure_is_recomputable_and_within_the_limit(
    steps: list[tuple[str, int, int, str]],
) -> None:
    world = open_world(SYMBOLS)
    account_id = world.account.pk
    RiskLimits.objects.filter(account=world.account).update(open_orders_symbol_max=5, exposure_max=D("0.09"))
    for number, (symbol, offset, ticks, action) in enumerate(steps):
        if action != "signal":
            set_trading_state(account_id=account_id, to_state=action, set_by="tester", reason="a test")  # type: ignore[arg-type]
            continue
        price = D(ticks).scaleb(-4)
        signal = world.entry_signal(symbol, ts_event=TRIGGER_MS + offset, trade_id=f"t{number}", price=price)
        decision = world.decide(signal)
        assert decision is not None
        state, book = world.state, read_book(account_id)
        assert state.exposure == to_money(book.exposure(MarkSet.from_json(state.marks).prices))
        limit = current_limits(account_id).exposure_max * decision.equity
        assert decision.verdict == "denied" or decision.exposure_after <= limit
        assert decision.verdict == "denied" or decision.trading_state == "ACTIVE"
        assert Account.objects.get(pk=account_id).cash >= book.reserved("USDT")
    times = sorted(OrderIntent.objects.filter(account=world.account).values_list("ts_event", flat=True))
    assert all(later - first >= 1_000 for first, later in zip(times, times[5:], strict=False))
