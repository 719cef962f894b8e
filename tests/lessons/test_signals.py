"""What a rise is, what volume is, and that a signal has one identity for ever."""

from __future__ import annotations

from decimal import Decimal

import pytest

from apps.engine.events import BUY, CoverageStart, WarmupBar
from apps.engine.model import RaisedSignal
from apps.engine.shard import ShardEngine, StrategySpec
from apps.execution.models import VenueOrder
from apps.outbox.models import OutboxEvent
from apps.portfolio.models import Account
from apps.risk.models import OrderIntent
from apps.signals.models import Signal
from apps.signals.services import drain
from tests import factories
from tests.engine.market_stream import PARAMETERS, SCALE, START_MS, Print, block_of, make_prints, to_entries
from tests.signals.conftest import tools  # noqa: F401  (a fixture)
from tests.signals.shards import SYMBOLS, open_shards
from tests.worlds import TRIGGER_MS, open_world

MINUTE = START_MS // 60_000
BUSY_SEED = 4


def raised(closes: list[int], prices: list[int], *, quantity: int = 1, **parameters: object) -> list[RaisedSignal]:
    """Closed minutes up to now, then trades of this minute one second apart; prices in ticks of 0.0001."""
    engine = ShardEngine({"AAAUSDT": SCALE}, [StrategySpec(1, "momentum", {**PARAMETERS, **parameters})])
    first = MINUTE - len(closes)
    bars = [WarmupBar("AAAUSDT", first + n, close, close, close, close, 0, 0, 0) for n, close in enumerate(closes)]
    start = CoverageStart(1, START_MS, 0, ["AAAUSDT"], "test")
    rows = [Print(START_MS + 1_000 * n, "AAAUSDT", price, quantity, BUY, str(n)) for n, price in enumerate(prices)]
    return engine.apply("1-0", [*bars, start, block_of(rows, 1)]).signals


def rising(minutes: int, per_minute: int) -> list[int]:
    return [10_000 + per_minute * n for n in range(minutes)]


def test_a_slow_rise_over_the_window_counts_although_no_two_trades_differ_much() -> None:
    closes = rising(20, 14)  # 0.14 % a minute: 2 % in 15 minutes, and never more than 0.2 % between two prices
    (signal,) = raised(closes, [closes[-1] + 10])
    assert signal.change == pytest.approx((closes[-1] + 10) / closes[-16] - 1, abs=1e-12)


def test_a_jump_between_two_trades_is_no_rise_if_the_window_shows_none() -> None:
    closes = [10_300] * 5 + [9_900 + 20 * n for n in range(15)]  # fell, and climbs back to 1.2 % below its start
    assert raised(closes, [9_950, 10_180], rsi_min=0) == []


@pytest.mark.parametrize(("lookback", "signals"), [(5, 0), (15, 1)])
def test_the_length_of_the_window_is_the_one_that_was_set(lookback: int, signals: int) -> None:
    closes = rising(20, 14)
    assert len(raised(closes, [closes[-1] + 10], lookback_minutes=lookback)) == signals


@pytest.mark.parametrize(("trades", "signals"), [(9, 0), (10, 1), (11, 1)])
def test_volume_is_the_turnover_of_the_whole_window_and_not_of_one_trade(trades: int, signals: int) -> None:
    """Each trade is worth 1.25; ten of them reach 12.5, and the signal is raised by the tenth."""
    found = raised(rising(20, 14), [12_500] * trades, quantity=100, turnover_min=12.5)
    assert [signal.trade_id for signal in found] == ["9"] * signals


@pytest.mark.django_db(transaction=True)
def test_a_stop_that_is_reached_is_sold_and_not_only_carried_along(tools: drain.Tools) -> None:  # noqa: F811
    """Nobody asks for it: the price reaches the stop on the stream, and there is a signal to sell with its wake-up."""
    world = open_shards(tools, shard_count=1)
    instrument = world.epoch.members.get(instrument__symbol="AAAUSDT").instrument
    position = factories.PositionFactory.create(
        account=world.account, instrument=instrument, entry_price=Decimal("1.0"), stop_price=Decimal("0.98"),
        opened_ts=START_MS, trigger_entry="1-0", strategy_version_id=world.session.strategies.get().version_id,
    )  # fmt: skip
    Account.objects.update(portfolio_epoch=1)
    rows = [
        Print(START_MS + 1_000 * n, "AAAUSDT", price, 1, BUY, str(n)) for n, price in enumerate([9_900, 9_801, 9_800])
    ]
    world.publish([("1-0", [CoverageStart(1, START_MS, 0, ["AAAUSDT"], "test"), block_of(rows, 1)])])
    world.drain_all()
    found = Signal.objects.get()
    assert (found.kind, found.exit_reason, found.position, found.trade_id) == ("exit", "stop_loss", position, "2")
    assert OutboxEvent.objects.get(event_type="SignalRaised").payload == {"signal_id": found.pk}


# --- identity ---------------------------------------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
def test_a_process_that_dies_after_a_signal_neither_loses_nor_repeats_it(tools: drain.Tools) -> None:  # noqa: F811
    entries = to_entries(make_prints(BUSY_SEED, symbols=SYMBOLS, minutes=90), 1, frame_ms=(10_000,))
    calm = open_shards(tools, shard_count=1)
    calm.publish(entries)
    calm.drain_all()
    expected = sorted(Signal.objects.filter(session=calm.session).values_list("ts_event", "trade_id"))
    raised_at = set(Signal.objects.values_list("entry_id", flat=True))
    killed = open_shards(tools, shard_count=1)
    for entry in entries:
        killed.publish([entry])
        if entry[0] in raised_at:  # its minute is still open: the next process reads it again
            killed.drain_all()
            drain.forget()
            killed.drain_all()
    killed.drain_all()
    assert sorted(Signal.objects.filter(session=killed.session).values_list("ts_event", "trade_id")) == expected
    assert len(expected) > 1


@pytest.mark.django_db
def test_an_order_keeps_its_id_from_the_decision_to_the_venue_and_shares_it_with_no_other_session() -> None:
    worlds = [open_world(), open_world()]
    intents = [world.approved(world.entry_signal(ts_event=TRIGGER_MS, trade_id="7")) for world in worlds]
    for world, intent in zip(worlds, intents, strict=True):
        world.send(intent)
    ids = {intent.client_order_id for intent in intents}
    assert len(ids) == 2
    assert set(VenueOrder.objects.values_list("client_order_id", flat=True)) == ids
    assert all(len(name) == 25 for name in ids)  # 96 bits: no two of a lifetime are equal by chance
    assert OrderIntent._meta.get_field("client_order_id").unique
