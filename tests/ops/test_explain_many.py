"""Many signals of every kind: each ends in exactly one reason of the closed list, and every number comes out again.

`make prove-explain N=10000` asks for more of them; everyday tests take a few hundred.
"""

from __future__ import annotations

import os
import random
import time
from collections import Counter
from pathlib import Path

import pytest
from django.db import connection, transaction

from apps.ops.explain.asking import explain
from apps.ops.explain.endings import OPEN, Ending, UnmappedEnding, code_words, codes_of, ending_of
from apps.ops.explain.parts import as_json
from apps.ops.explain.stream import Sources
from apps.ops.verify.again_checks import check_again
from apps.ops.verify.chain_checks import check_chain, check_endings
from apps.ops.verify.money_checks import check_money
from apps.signals.models import Signal, SignalRefusal
from tests.factories import SessionStrategyFactory
from tests.ops.chains import tear
from tests.ops.many_signals import SYMBOLS, Day
from tests.worlds import open_world

SIGNALS = int(os.environ.get("EXPLAIN_SIGNALS", "60"))
SEED = int(os.environ.get("EXPLAIN_SEED", "7"))
LATER_MS = 120_000
EXPLAINED = 25  # chains that are told in full
# The links of a chain; of each one row among all is deleted. What nothing came of is no link.
LINKS = {
    "signals_signal": "id IN (SELECT signal_id FROM risk_riskdecision)",
    "risk_riskdecision": "true",
    "risk_orderintent": "true",
    "portfolio_reservation": "true",
    "execution_order": "true",
    "execution_orderevent": "true",
    "execution_trade": "true",
    "portfolio_position": "true",
    "portfolio_ledgerentry": "true",
}

# Within one transaction every version of the account's row would stay, and each read would pass all of them.
COMMITTED = SIGNALS > 300

pytestmark = [pytest.mark.django_db(transaction=COMMITTED), pytest.mark.timeout(max(120, SIGNALS))]


def later_ms() -> int:
    return time.time_ns() // 1_000_000 + LATER_MS


@pytest.fixture
def day() -> Day:
    world = open_world(SYMBOLS)
    SessionStrategyFactory.create(session=world.session, version=world.version)
    return Day(world, random.Random(SEED))


def test_every_signal_ends_in_exactly_one_reason_and_every_number_comes_out_again(day: Day) -> None:
    day.run(SIGNALS)
    signals, now_ms = Signal.objects.filter(session=day.world.session), later_ms()
    asked = {number: code for number, _, code in codes_of(signals, now_ms)}
    told = {signal.pk: ending_of(signal, now_ms).code for signal in signals.select_related("session")}
    assert asked == told
    counted = Counter(asked.values())
    counted[Ending.REFUSED.value] = SignalRefusal.objects.count()
    assert all(code_words(code) for code in counted)
    if SIGNALS >= 60:
        met = {code.partition(":")[0] for code in counted}
        assert set(Ending) - {Ending.PENDING, Ending.HELD, Ending.TRADED_IN_PART} <= met, set(Ending) - met
        assert len([code for code in counted if code.startswith("denied:")]) >= 6
    day.finish()
    session = day.world.session
    for check in (check_chain(session, later_ms()), check_endings(session, later_ms()), check_again(session)):
        assert check.faults == [], (check.id, check.faults[:5])
        assert check.compared >= SIGNALS // 2
    assert check_money(session).faults == []
    assert links_not_missed(day) == []
    print(f"{sum(counted.values())} signals, seed {SEED}: {dict(counted.most_common())}")


def links_not_missed(day: Day) -> list[str]:
    """One row of each kind is deleted, drawn by dice, and put back: those whose loss `verify` did not find."""
    overlooked = []
    for table, linked in LINKS.items():
        with connection.cursor() as cursor:
            cursor.execute(f"SELECT id FROM {table} WHERE {linked} ORDER BY id")
            number = day.dice.choice([row[0] for row in cursor.fetchall()])
        with transaction.atomic():
            tear(table, f"DELETE FROM {table} WHERE id = %s", number)
            if not check_chain(day.world.session, later_ms()).faults:
                overlooked.append(f"{table} {number}")
            transaction.set_rollback(True)
    return overlooked


def test_each_chain_is_told_with_nothing_missing(day: Day, tmp_path: Path) -> None:
    day.run(24)
    nowhere = Sources(None, tmp_path, tmp_path)
    for signal in Signal.objects.order_by("id")[:EXPLAINED]:
        found = explain(f"signal:{signal.pk}", now_ms=later_ms(), sources=nowhere, verify=True)
        assert found.missing == ()
        assert [row for row in found.proof or () if not row.equal and row.name != "signal"] == []
        assert as_json(found)["ending"] == found.ending


def test_an_ending_that_the_list_does_not_know_raises(day: Day) -> None:
    signal = day.signal()
    decision = day.world.decide(signal)
    assert decision is not None
    tear("risk_orderintent", "DELETE FROM risk_orderintent")
    with pytest.raises(UnmappedEnding, match="has no intent"):
        ending_of(signal, later_ms())
    assert codes_of(Signal.objects.all(), later_ms()) == [(signal.pk, "entry", "")]


@pytest.mark.parametrize("reasons", ['["OTHER"]', "[]"])
def test_a_denial_without_a_known_reason_is_no_ending(day: Day, reasons: str) -> None:
    signal = day.signal(unproven_minutes=1)
    day.world.decide(signal)
    tear("risk_riskdecision", "UPDATE risk_riskdecision SET reasons = %s::jsonb", reasons)
    with pytest.raises(UnmappedEnding, match="without a known reason"):
        ending_of(signal, later_ms())
    assert codes_of(Signal.objects.all(), later_ms())[0][2] == ""


def test_a_young_signal_is_pending_and_an_old_exit_is_held(day: Day) -> None:
    signal = day.signal()
    now_ms = time.time_ns() // 1_000_000
    assert ending_of(signal, now_ms).ending is Ending.PENDING
    assert codes_of(Signal.objects.all(), now_ms)[0][2] == "pending"
    assert ending_of(signal, later_ms()).ending is Ending.UNDECIDED
    Signal.objects.update(kind="exit")
    assert codes_of(Signal.objects.all(), later_ms())[0][2] == "held"


@pytest.mark.parametrize("code", ["other", "denied", "denied:OTHER", "traded:EXPOSURE", ""])
def test_a_code_outside_the_closed_list_has_no_words(code: str) -> None:
    with pytest.raises(UnmappedEnding):
        code_words(code)


def test_every_ending_has_words_and_is_over_or_not() -> None:
    assert all(code_words(ending) for ending in Ending if ending is not Ending.DENIED)
    assert len(OPEN) == 7
