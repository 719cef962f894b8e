"""A session that really decided: the rows that live trading would have written for a simulated day."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

from django.conf import settings

from apps.backtest.services.whatif import setup_of_session
from apps.backtest.simulating import simulate
from apps.backtest.slicing import whole_minutes
from apps.engine.desk.account import DeskDecision, DeskEnd
from apps.engine.portfolio import Fill
from apps.engine.results import Result, SimulatedSignal
from apps.execution.models import OrderStatus
from apps.market.archive.carrying import import_csv
from apps.market.archive.keeping import key_of
from apps.market.archive.layout import Folder, read_meta
from apps.market.archive.reading import read_tapes
from apps.market.models import Instrument
from apps.portfolio.models import Account, Position
from apps.risk.models import RiskDecision
from apps.signals.models import Signal
from tests import factories

DAY = date(2026, 2, 2)  # of the recordings that tests/road/recordings.py makes
PARAMETERS: dict[str, Any] = {
    **factories.momentum_parameters(), "threshold_pct": 1.0, "rsi_min": 20, "cooldown_minutes": 5,
    "take_profit_pct": "2",
}  # fmt: skip


@dataclass
class Past:
    account: Account
    root: Path
    result: Result


def live_through(recording: Path, root: Path) -> Past:
    """Archive the recording as a session's feed, and write down as history what the session decides on it."""
    epoch = factories.FeedEpochFactory.create()
    key = key_of(epoch)
    import_csv(root, [recording], key=key)
    specs = read_meta(Folder(root, key)).specs()
    for symbol in specs:
        instrument = factories.InstrumentFactory.create(symbol=symbol)
        factories.EpochInstrumentFactory.create(epoch=epoch, instrument=instrument)
    session = factories.TradingSessionFactory.create(epoch=epoch)
    account = factories.AccountFactory.create(session=session)
    factories.RiskLimitsFactory.create(account=account, version=1)
    version = factories.StrategyVersionFactory.create(parameters=PARAMETERS, engine_hash=settings.ENGINE_HASH)
    factories.SessionStrategyFactory.create(session=session, version=version)
    account = Account.objects.select_related("session__epoch").get(pk=account.pk)
    done = simulate(setup_of_session(account, specs, {}), whole_minutes(read_tapes(Folder(root, key))))
    assert done is not None
    _Writer(account, done.result, version.pk).write()
    return Past(account, root, done.result)


class _Writer:
    def __init__(self, account: Account, result: Result, version_id: int) -> None:
        self.account, self.result, self.version_id = account, result, version_id
        self.limits = account.limits.get()
        self.signals = {signal.key: signal for signal in result.signals}
        self.ends = {end.order.trigger_key: end for end in result.ends}
        self.positions: dict[str, Position] = {}

    def write(self) -> None:
        for decision in self.result.decisions:
            self._decision(decision, self.signals[decision.trigger_key])
        for trip in self.result.round_trips:
            held = Position.objects.filter(account=self.account, opened_ts=trip.opened_ts_event)
            held.filter(instrument__symbol=trip.symbol).update(
                status=Position.Status.CLOSED, closed_ts=trip.closed_ts_event, realized=trip.gross, fees=trip.fees
            )

    def _decision(self, decision: DeskDecision, seen: SimulatedSignal) -> None:
        instrument = Instrument.objects.get(symbol=seen.symbol, source=self.account.session.epoch.source)
        fields: dict[str, Any] = {
            "session": self.account.session, "instrument": instrument, "strategy_version_id": self.version_id,
            "ts_event": seen.ts_event, "trade_id": seen.trade_id, "trigger_key": seen.key, "kind": seen.kind,
        }  # fmt: skip
        if seen.kind == "exit":
            entry, attempt = seen.key.removeprefix("x:").rsplit(":", 1)
            position = self.positions[entry]
            fields |= {
                "position": position,
                "trigger_key": f"x:{position.pk}:{attempt}",
                "exit_reason": seen.reason[:12],
            }
        signal = Signal.objects.create(**{"price": 1, "entry_id": "1-0", "ts_init": seen.ts_event, **fields})
        verdicts = RiskDecision.Verdict
        row = factories.RiskDecisionFactory.create(
            signal=signal, account=self.account, limits=self.limits, sequence=decision.sequence,
            verdict=verdicts.APPROVED if decision.ruled.approved else verdicts.DENIED,
            reasons=[reason.value for reason in decision.ruled.assessment.reasons],
        )  # fmt: skip
        if decision.ruled.approved:
            self._order(row, decision, self.ends[seen.key])

    def _order(self, row: RiskDecision, decision: DeskDecision, end: DeskEnd) -> None:
        wanted, fill = decision.ruled.proposal.intent, end.outcome
        intent = factories.OrderIntentFactory.create(
            decision=row, client_order_id=end.order.client_order_id, side=wanted.side.value, quantity=wanted.quantity,
            limit_price=wanted.limit_price, reducing=wanted.reducing,
        )  # fmt: skip
        filled = isinstance(fill, Fill)
        order = factories.OrderFactory.create(
            intent=intent, status=OrderStatus.FILLED if filled else OrderStatus.EXPIRED
        )
        if not isinstance(fill, Fill):
            return
        position = row.signal.position
        if position is None:
            position = self.positions[decision.trigger_key] = factories.PositionFactory.create(
                account=self.account, instrument=row.signal.instrument, opened_by=intent.client_order_id,
                opened_ts=fill.ts_event,
            )  # fmt: skip
        factories.TradeFactory.create(
            order=order, position=position, price=fill.price, quantity=fill.quantity, fee=fill.fee,
            side=wanted.side.value, ts_event=fill.ts_event, sequence=end.sequence,
        )  # fmt: skip
