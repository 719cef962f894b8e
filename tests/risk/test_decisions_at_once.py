"""Many decisions at the same time on real PostgreSQL: none is made twice and no limit is ever broken."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from threading import Barrier
from typing import TypeVar

import pytest
from django.db import connection, transaction

from apps.portfolio.models import Account, Reservation
from apps.risk.models import OrderIntent, RiskDecision, RiskLimits, RiskState
from apps.signals.models import Signal
from tests.worlds import TRIGGER_MS, World, open_world

D = Decimal
Result = TypeVar("Result")
pytestmark = pytest.mark.django_db(transaction=True)


def at_once(jobs: list[Callable[[], Result]]) -> list[Result]:
    """Run jobs in threads that all start together, each with a connection of its own."""
    barrier = Barrier(len(jobs))

    def run(job: Callable[[], Result]) -> Result:
        barrier.wait(timeout=20)
        try:
            return job()
        finally:
            connection.close()

    with ThreadPoolExecutor(len(jobs)) as pool:
        return list(pool.map(run, jobs))


def decide_all(world: World, signals: list[Signal]) -> list[RiskDecision | None]:
    return at_once([lambda signal=signal: world.decide(signal) for signal in signals])  # type: ignore[misc]


def test_two_calls_for_one_signal_make_one_decision() -> None:
    world = open_world()
    signal = world.entry_signal()
    results = decide_all(world, [signal] * 4)
    assert sum(result is not None for result in results) == 1
    assert RiskDecision.objects.count() == OrderIntent.objects.count() == Reservation.objects.count() == 1
    assert Account.objects.get(pk=world.account.pk).sequence == 2


def test_signals_in_parallel_never_pass_the_gross_limit() -> None:
    symbols = [f"{letter * 3}USDT" for letter in "ABCDEFGH"]
    world = open_world(symbols)
    RiskLimits.objects.update(exposure_max=D("0.07"), orders_per_second_max=100)
    signals = [world.entry_signal(symbol) for symbol in symbols]
    decide_all(world, signals)
    decisions = list(RiskDecision.objects.order_by("sequence"))
    assert [decision.sequence for decision in decisions] == list(range(2, 10))
    # 2 040 each: three fit into 7 000
    assert sum(decision.verdict == "approved" for decision in decisions) == 3
    assert all(decision.exposure_after <= D(7_000) for decision in decisions)
    denied = [decision for decision in decisions if decision.verdict == "denied"]
    assert {tuple(decision.reasons) for decision in denied} == {("EXPOSURE",)}
    assert RiskState.objects.get().exposure == sum(row.notional for row in Reservation.objects.all()) == D(6_120)


def test_signals_in_parallel_never_pass_the_throttle() -> None:
    symbols = [f"{letter * 3}USDT" for letter in "ABCDEFGH"]
    world = open_world(symbols)
    signals = [world.entry_signal(symbol, ts_event=TRIGGER_MS + n) for n, symbol in enumerate(symbols)]
    decide_all(world, signals)
    assert OrderIntent.objects.count() == 5


def test_a_decision_waits_for_whoever_holds_the_account() -> None:
    world = open_world()
    signal = world.entry_signal()
    with ThreadPoolExecutor(1) as pool:
        with transaction.atomic():
            account = Account.objects.select_for_update().get(pk=world.account.pk)
            running = pool.submit(at_once, [lambda: world.decide(signal)])
            account.sequence += 10
            account.save()
        decision = running.result(timeout=20)[0]
    assert decision is not None
    assert decision.sequence == 12
