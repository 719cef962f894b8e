"""`manage.py verify` finds every link of the chain that was deleted behind everybody's back, and names it."""

from __future__ import annotations

import re
import time
from pathlib import Path

import pytest
import redis
from django.db import transaction

from apps.execution.models import Order
from apps.ops.verify.chain_checks import check_chain, check_endings
from apps.portfolio.models import TradingSession
from tests.factories import StrategyVersionFactory
from tests.ops.chains import Chains, open_chains, tear

pytestmark = pytest.mark.django_db

LATER_MS = 120_000  # so that nothing is young enough to be waited for


def later_ms() -> int:
    return time.time_ns() // 1_000_000 + LATER_MS


@pytest.fixture
def chains(redis_client: redis.Redis, tmp_path: Path) -> Chains:
    """An entry that traded, its exit, and a denied signal."""
    found = open_chains(redis_client, tmp_path)
    found.closed()
    found.denied()
    return found


def faults(session: TradingSession) -> list[str]:
    return check_chain(session, later_ms()).faults


def test_a_whole_chain_holds_and_says_how_much_was_compared(chains: Chains) -> None:
    check = check_chain(chains.world.session, later_ms())
    assert check.faults == []
    assert check.compared > 70
    ended = check_endings(chains.world.session, later_ms())
    assert (ended.faults, ended.compared) == ([], 3)


DAMAGES = [
    ("signals_signal", "DELETE FROM signals_signal WHERE kind = 'entry'", r"risk decision \d+ has lost its signal"),
    ("signals_strategyversion", "DELETE FROM signals_strategyversion", r"signal \d+ has lost its strategy version"),
    ("signals_strategy", "DELETE FROM signals_strategy", r"strategy version \d+ has lost its strategy"),
    ("market_instrument", "DELETE FROM market_instrument", r"signal \d+ has lost its instrument"),
    ("risk_risklimits", "DELETE FROM risk_risklimits", r"risk decision \d+ has lost its limits version"),
    ("risk_riskstate", "DELETE FROM risk_riskstate", r"account \d+ has no risk state"),
    ("risk_riskdecision", "DELETE FROM risk_riskdecision WHERE verdict = 'approved'", r"has lost its decision"),
    ("risk_riskdecision", "DELETE FROM risk_riskdecision WHERE verdict = 'denied'", r"gave number [\d, ]+ and has no"),
    ("risk_riskdecision", "UPDATE risk_riskdecision SET checks = checks - 3", r"has lost its checks: "),
    ("risk_riskdecision", "UPDATE risk_riskdecision SET checks = '[]'", r"has lost its checks: "),
    ("risk_riskdecision", "UPDATE risk_riskdecision SET reasons = '[]'", r"is denied for \[\], its checks failed"),
    ("risk_orderintent", "DELETE FROM risk_orderintent", r"decision \d+ is approved and has lost its intent"),
    ("portfolio_reservation", "DELETE FROM portfolio_reservation", r"intent \d+ has lost its reservation"),
    (
        "portfolio_reservation",
        "UPDATE portfolio_reservation SET client_order_id = 'c' || id",
        r"reservation c\d+ has",
    ),
    ("execution_order", "DELETE FROM execution_order", r"intent \d+ has no order"),
    ("execution_orderevent", "DELETE FROM execution_orderevent WHERE number = 1", r"order \d+: event 1 is gone"),
    ("execution_orderevent", "DELETE FROM execution_orderevent WHERE number = 2", r"order \d+: event 2 is gone"),
    ("execution_orderevent", "DELETE FROM execution_orderevent", r"its events end in INITIALIZED"),
    ("execution_trade", "DELETE FROM execution_trade WHERE side = 'SELL'", r"its trades add up to 0"),
    ("execution_trade", "DELETE FROM execution_trade", r"legs without their fill: trade:paper:"),
    ("execution_venueorder", "DELETE FROM execution_venueorder", r"is gone from the paper venue's books"),
    ("portfolio_position", "DELETE FROM portfolio_position", r"trade \d+ has lost its position"),
    ("portfolio_ledgerentry", "DELETE FROM portfolio_ledgerentry WHERE kind = 'fee'", r"has lost a leg: fee"),
    ("portfolio_ledgerentry", "DELETE FROM portfolio_ledgerentry WHERE kind = 'venue'", r"has lost a leg: venue"),
    ("portfolio_ledgerentry", "DELETE FROM portfolio_ledgerentry WHERE leg = 0", r"1 of the 2 legs of its deposit"),
    ("portfolio_account", "DELETE FROM portfolio_account", r"session \d+ has no account"),
]


def test_each_deleted_link_is_found_and_named(chains: Chains) -> None:
    overlooked = []
    for table, sql, named in DAMAGES:
        point = transaction.savepoint()
        tear(table, sql)
        found = faults(chains.world.session)
        transaction.savepoint_rollback(point)
        if not any(re.search(named, fault) for fault in found):
            overlooked.append((sql, found))
    assert not overlooked
    assert not faults(chains.world.session)


def test_a_version_between_two_others_is_missed(chains: Chains) -> None:
    version = chains.world.version
    for number in (version.version + 1, version.version + 2):
        StrategyVersionFactory.create(strategy=version.strategy, version=number)
    tear("signals_strategyversion", "DELETE FROM signals_strategyversion WHERE version = %s", version.version + 1)
    wanted = f"version of strategy {version.strategy_id} {version.version + 1} is gone"
    assert wanted in faults(chains.world.session)


def test_an_order_that_skipped_a_step_is_found(chains: Chains) -> None:
    order = Order.objects.order_by("id")[0]
    tear("execution_orderevent", "UPDATE execution_orderevent SET event = 'REJECT' WHERE number = 1")
    assert f"order {order.pk}: REJECT cannot come after INITIALIZED" in faults(chains.world.session)


def test_a_signal_in_no_known_ending_is_a_defect(chains: Chains) -> None:
    tear("risk_orderintent", "DELETE FROM risk_orderintent")
    found = check_endings(chains.world.session, later_ms()).faults
    assert len(found) == 2
    assert all("ends in nothing that the closed list knows" in fault for fault in found)
