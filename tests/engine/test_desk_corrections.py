"""A replay takes corrections of the ledger as they were posted, in their place among the decisions."""

from __future__ import annotations

from decimal import Decimal

from apps.engine.desk.account import Desk, PaperSettings
from apps.engine.desk.replaying import MoneyStep, Replay, StateStep, Step
from apps.engine.portfolio import Leg, LegKind
from apps.engine.risk.values import TradingState
from tests.engine.simulations import LIMITS

D = Decimal


def test_corrections_move_cash_in_the_replay_too_and_take_their_number() -> None:
    desk = Desk(
        capital=D(1_000), currency="USDT", limits=LIMITS, terms={}, plans={}, paper=PaperSettings(150, D(1), D(10))
    )
    replay = Replay(desk, lambda *_: None, lambda *_: "")
    legs = (Leg(LegKind.CASH, "USDT", D("-2.5")), Leg(LegKind.VENUE, "USDT", D("2.5")))
    steps: list[Step] = [
        MoneyStep(sequence=1, reference="correction:1", legs=legs),
        StateStep(sequence=2, state=TradingState.HALTED, words="since 12:00 by mara: odd"),
    ]
    assert replay.run(steps) is None
    assert (desk.cash, desk.sequence) == (D("997.5"), 2)
    assert desk.ledger[-1] == ("correction:1", legs)
