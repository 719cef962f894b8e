"""Every number of a chain can be worked out again from what was stored before it; one that was changed does not fit."""

from __future__ import annotations

import re
from decimal import Decimal
from pathlib import Path

import pytest
import redis
from django.core.management import call_command
from django.db import transaction

from apps.engine.kernel import MINUTE_MS
from apps.engine.strategies import STRATEGIES
from apps.execution.models import Order
from apps.market.models import Bar
from apps.ops.explain.asking import explain
from apps.ops.explain.history import Past
from apps.ops.explain.parts import Explanation
from apps.ops.verify.again_checks import check_again
from apps.portfolio.models import Account, Reservation
from apps.portfolio.selectors import read_book
from apps.risk.models import RiskDecision, TradingState
from apps.risk.services import set_trading_state
from apps.signals.models import Signal
from tests.factories import BarFactory, SignalFactory
from tests.ops.chains import Chains, T, open_chains, tear
from tests.worlds import NOW_MS, stale, trades, unknown

D = Decimal
pytestmark = pytest.mark.django_db


@pytest.fixture(scope="module", autouse=True)
def compiled() -> None:
    """Before any transaction is open: a connection that waits for the compiler would be closed."""
    STRATEGIES["momentum"].kernel.load()


@pytest.fixture
def chains(redis_client: redis.Redis, tmp_path: Path) -> Chains:
    return open_chains(redis_client, tmp_path)


def proven(chains: Chains, name: str) -> Explanation:
    return explain(name, now_ms=NOW_MS, sources=chains.sources, verify=True)


def different(found: Explanation) -> list[str]:
    assert found.proof is not None
    return [row.name for row in found.proof if not row.equal and row.name != "signal"]


def everything(chains: Chains) -> None:
    """A round trip, a denial, refusals of every kind, and an order that is open."""
    chains.closed()
    chains.denied()
    world = chains.world
    world.decide(world.entry_signal(), feed=stale)
    world.decide(world.entry_signal(), feed=unknown)
    world.decide(world.entry_signal(unproven_minutes=2, unproven_reason="gap of 3 s"))
    world.decide(world.entry_signal(price=D("0.6")))
    world.decide(world.entry_signal(bid=None, ask=None))
    for state in (TradingState.REDUCING, TradingState.HALTED):
        set_trading_state(account_id=world.account.pk, to_state=state, set_by="mara", reason="odd: (fills)")
        world.decide(world.entry_signal())


def test_every_number_of_an_order_that_traded_comes_out_again(chains: Chains) -> None:
    order = chains.traded()
    found = proven(chains, order.client_order_id)
    assert found.proof is not None
    assert different(found) == []
    names = {row.name for row in found.proof}
    assert {"verdict", "check EXPOSURE", "order quantity", "filled", "position's entry price", "stop price"} <= names
    assert any(name.startswith("price of paper") for name in names)
    assert any(name.startswith("ledger of paper") for name in names)


def test_every_verdict_of_a_session_comes_out_again(chains: Chains) -> None:
    everything(chains)
    check = check_again(chains.world.session)
    assert check.faults == []
    assert check.compared > 150


def test_the_past_of_an_account_ends_with_what_it_has_now(chains: Chains) -> None:
    everything(chains)
    set_trading_state(
        account_id=chains.world.account.pk, to_state=TradingState.ACTIVE, set_by="mara", reason="it was nothing"
    )
    chains.limit(exposure_max=D("0.5"))
    chains.world.approved(chains.world.entry_signal())
    account = Account.objects.get(pk=chains.world.account.pk)
    past = Past.of(account)
    past.to(account.sequence + 1)
    now, again = read_book(account.pk), past.book()
    assert again.positions == now.positions
    assert sorted(map(str, again.reservations)) == sorted(map(str, now.reservations))
    assert past.cash_at(account.session.started_at.replace(year=2100)) == account.cash
    assert Reservation.objects.filter(account=account, active=True).exists()


DAMAGES = [
    ("risk_riskdecision", "UPDATE risk_riskdecision SET equity = equity + 1", r"equity is 1000\d\d"),
    ("risk_riskdecision", "UPDATE risk_riskdecision SET exposure_before = exposure_before + 1", "exposure before is"),
    ("risk_riskdecision", "UPDATE risk_riskdecision SET exposure_after = 7", "exposure after is 7, "),
    ("risk_riskdecision", "UPDATE risk_riskdecision SET sentence = 'Approved.'", "sentence is Approved"),
    ("risk_riskdecision", "UPDATE risk_riskdecision SET feed_age_ms = 1999", "check STALE_FEED is"),
    ("risk_riskdecision", "UPDATE risk_riskdecision SET verdict = 'denied'", "verdict is denied, worked out again app"),
    ("risk_riskdecision", "UPDATE risk_riskdecision SET checks = checks - 0", "is nothing, worked out again "),
    ("risk_risklimits", "UPDATE risk_risklimits SET exposure_max = 0.3", "check EXPOSURE is"),
    (
        "risk_risklimits",
        "UPDATE risk_risklimits SET order_size = 0.01",
        "quantity is 4000, worked out again 2000",
    ),
    ("risk_orderintent", "UPDATE risk_orderintent SET quantity = quantity + 1", "order quantity is 4001"),
    ("risk_orderintent", "UPDATE risk_orderintent SET limit_price = 9", "order limit price is 9"),
    ("execution_trade", "UPDATE execution_trade SET price = price + 1", "price of paper"),
    ("execution_trade", "UPDATE execution_trade SET fee = fee * 2", "fee of paper"),
    ("execution_trade", "UPDATE execution_trade SET quantity = quantity - 1", "filled is 4000, worked out again 3999"),
    ("portfolio_ledgerentry", "UPDATE portfolio_ledgerentry SET amount = 1 WHERE kind = 'fee'", "ledger of paper"),
    ("portfolio_position", "UPDATE portfolio_position SET entry_price = 1", "position's entry price is 1"),
    ("portfolio_position", "UPDATE portfolio_position SET stop_price = 1", "stop price is 1"),
    ("portfolio_position", "UPDATE portfolio_position SET realized = 1", "position's realized is 1"),
]


def test_each_changed_number_is_found_and_named(chains: Chains) -> None:
    chains.traded()
    overlooked = []
    for table, sql, named in DAMAGES:
        point = transaction.savepoint()
        tear(table, sql)
        found = check_again(chains.world.session).faults
        transaction.savepoint_rollback(point)
        if not any(re.search(named, fault) for fault in found):
            overlooked.append((sql, found))
    assert not overlooked


def test_the_command_ends_with_code_1_if_a_number_differs(chains: Chains, capsys: pytest.CaptureFixture[str]) -> None:
    order = chains.traded()
    tear("portfolio_position", "UPDATE portfolio_position SET stop_price = 1")
    with pytest.raises(SystemExit) as end:
        call_command("explain", f"order:{order.pk}", "--verify")
    assert end.value.code == 1
    assert "≠ stop price" in capsys.readouterr().out


# --- indicators -------------------------------------------------------------------------------------------------------

MINUTES = 40
OPEN_MINUTE = T // MINUTE_MS + MINUTES


def rising_signal(chains: Chains, **changes: float) -> Signal:
    """Forty closed minutes that rise, and a trade of the next one on which the rule fires; figures by hand."""
    world = chains.world
    for number in range(MINUTES):
        BarFactory.create(
            epoch=world.epoch, instrument=world.instruments["XRPUSDT"], minute=OPEN_MINUTE - MINUTES + number,
            close=D("0.5") + D(number) / 1000,
        )  # fmt: skip
    at = OPEN_MINUTE * MINUTE_MS + 500
    world.publish(chains.client, trades((at - 1_000, 5_390)))
    entry = world.publish(chains.client, trades((at - 100, 5_400), (at, 5_500), ordinal=2))
    turnover = sum(float(D(100) * (D("0.5") + D(number) / 1000)) for number in range(MINUTES - 15, MINUTES))
    figures = {"change": 0.55 / 0.524 - 1, "rsi": 100.0, "turnover": turnover + 0.01 * (0.54 + 0.55), **changes}
    return SignalFactory.create(
        session=world.session, instrument=world.instruments["XRPUSDT"], strategy_version=world.version,
        ts_event=at, trade_id=str(at), price=D("0.55"), entry_id=entry, **figures,
    )  # fmt: skip


def test_indicators_come_out_again_from_stored_bars_and_the_trades_of_the_open_minute(chains: Chains) -> None:
    Bar.objects.all().delete()
    found = proven(chains, f"signal:{rising_signal(chains).pk}")
    assert found.proof is not None
    assert [(row.name, row.equal) for row in found.proof] == [("change", True), ("RSI", True), ("turnover", True)]


@pytest.mark.parametrize("name", ["change", "rsi", "turnover"])
def test_an_indicator_that_was_changed_does_not_fit(chains: Chains, name: str) -> None:
    Bar.objects.all().delete()
    found = proven(chains, f"signal:{rising_signal(chains, **{name: 0.1}).pk}")
    assert found.proof is not None
    assert [row.name.lower() for row in found.proof if not row.equal] == [name]


def test_what_cannot_be_worked_out_again_is_said(chains: Chains) -> None:
    signal = rising_signal(chains)
    chains.client.flushdb()
    found = proven(chains, f"signal:{signal.pk}")
    assert found.proof == ()
    assert found.unproven[0].startswith("the trades of its minute are gone")


def test_a_changed_check_is_found_in_its_own_chain(chains: Chains) -> None:
    order = chains.traded()
    decision = RiskDecision.objects.get()
    tear("risk_riskdecision", "UPDATE risk_riskdecision SET equity = 5 WHERE id = %s", decision.pk)
    assert different(proven(chains, order.client_order_id)) == ["equity"]
    assert Order.objects.get().pk == order.pk
