"""That losses are seen and stop trading, whoever looks, and that there is a way back from each stop."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

import pytest
import redis
from django.conf import settings

from apps.bus import clients
from apps.engine.portfolio import Fill, Side
from apps.market.models import Bar, ShardCursor
from apps.ops.steward.chores import Duties
from apps.portfolio.models import Account, Position
from apps.portfolio.services import EntryPlan, book_entry, book_exit, lock_account, save_account
from apps.risk.models import BreakerTrip, RiskDecision, RiskLimits, RiskState, TradingState
from apps.risk.services import set_trading_state, store_exposure
from apps.risk.services.states import StateRefused
from tests.factories import START_MINUTE
from tests.worlds import TRIGGER_MS, World, open_world

D = Decimal
DAY_MINUTES = 1_440
pytestmark = pytest.mark.django_db


@pytest.fixture
def duties(redis_client: redis.Redis) -> Duties:
    """The steward's, with an empty Redis: what it cannot know of feed and workers trips nothing."""
    return Duties(reader=clients.reader(settings.REDIS_URL), writer=clients.writer(settings.REDIS_URL))


def round_of(duties: Duties) -> None:
    """One turn of the steward's duties that have to do with money, as the steward has them."""
    for chore in duties.chores():
        if chore.name.startswith(("record equity", "watch losses")):
            chore.work()


def bought(world: World, quantity: int, price: str) -> Position:
    """A fill of an entry, booked as fills are."""
    account = lock_account(world.account.pk)
    fill = Fill(Side.BUY, D(price), D(quantity), D(0), "USDT", TRIGGER_MS - 1_000)
    position = book_entry(
        account=account, instrument=world.instruments["XRPUSDT"], client_order_id="bought", reference="trade:test:1",
        fill=fill, plan=EntryPlan(world.version.pk, "1-0", D(2), D(6), 60_000),
    )  # fmt: skip
    store_exposure(account=account, symbol="XRPUSDT", price=D(price))
    save_account(account)
    return position


def sold(world: World, position: Position, price: str) -> None:
    account = lock_account(world.account.pk)
    fill = Fill(Side.SELL, D(price), position.quantity, D(0), "USDT", TRIGGER_MS - 500)
    book_exit(account=account, position=position, reference="trade:test:2", fill=fill)
    store_exposure(account=account, symbol="XRPUSDT", price=D(price))
    save_account(account)


def closed(world: World, minute: int, price: str) -> None:
    """Every shard has closed the minute, at this price."""
    Bar.objects.update(close=D(price), minute=minute)
    ShardCursor.objects.filter(epoch=world.epoch).update(closed_minute=minute)


def entry(world: World, *, day: int = 0, seconds: int = 0) -> RiskDecision:
    at = TRIGGER_MS + (day * DAY_MINUTES * 60 + seconds) * 1_000
    decision = world.decide(world.entry_signal(ts_event=at))
    assert decision is not None
    return decision


def open_causes() -> set[tuple[str, str]]:
    return set(BreakerTrip.objects.filter(cleared_at=None).values_list("cause", "to_state"))


def test_what_fills_have_lost_stops_the_day_and_the_next_one_trades_again(duties: Duties) -> None:
    """5 500 of 100 000 are lost by fills; nobody tells risk, it looks."""
    world = open_world()
    RiskLimits.objects.update(drawdown_reducing=D("0.5"), drawdown_halted=D("0.6"), repeat_max=9)
    assert entry(world, seconds=-30).verdict == "approved"
    RiskState.objects.update(exposure=0)
    world.account.reservations.all().delete()
    sold(world, bought(world, 55_000, "0.5"), "0.4")
    denied = entry(world)
    assert (denied.reasons, denied.equity) == (["LOSS_LIMIT"], D(94_500))
    assert (world.state.trading_state, open_causes()) == ("REDUCING", {("DAILY_LOSS", "REDUCING")})
    closed(world, START_MINUTE + DAY_MINUTES, "0.5")
    round_of(duties)
    assert (world.state.trading_state, open_causes()) == ("ACTIVE", set())
    assert entry(world, day=1).verdict == "approved"


def test_a_loss_trips_without_any_signal(duties: Duties) -> None:
    """Nothing is decided; a price falls and the steward looks: 8 000 of 100 000."""
    world = open_world()
    bought(world, 80_000, "0.5")
    closed(world, START_MINUTE, "0.5")
    round_of(duties)
    assert open_causes() == set()
    closed(world, START_MINUTE + 1, "0.4")
    round_of(duties)
    assert open_causes() == {("DRAWDOWN", "HALTED")}
    assert world.state.trading_state == TradingState.HALTED


def test_what_was_gained_and_lost_again_between_two_decisions_is_a_drawdown(duties: Duties) -> None:
    """100 000 become 116 000 and then 108 000: 6.9 % below what it was worth most, whatever it began with."""
    world = open_world()
    bought(world, 80_000, "0.5")
    for number, price in enumerate(("0.5", "0.7", "0.6")):
        assert open_causes() == set()
        closed(world, START_MINUTE + number, price)
        round_of(duties)
    assert open_causes() == {("DRAWDOWN", "REDUCING")}
    assert BreakerTrip.objects.get().evidence["since"] == "116000"


def test_a_day_begins_with_what_the_evening_left(duties: Duties) -> None:
    """Worth 116 000 in the evening, 108 000 in the morning: lost on that day, though it began with less."""
    world = open_world()
    RiskLimits.objects.update(drawdown_reducing=D("0.5"), drawdown_halted=D("0.6"))
    bought(world, 80_000, "0.5")
    midnight = (START_MINUTE // DAY_MINUTES + 1) * DAY_MINUTES
    closed(world, midnight - 1, "0.7")
    round_of(duties)
    closed(world, midnight, "0.6")
    round_of(duties)
    assert open_causes() == {("DAILY_LOSS", "REDUCING")}
    row = BreakerTrip.objects.get()
    assert (row.evidence["since"], row.evidence["loss"]) == ("116000", "8000")
    assert row.evidence["day"] == datetime.fromtimestamp(midnight * 60, UTC).date().isoformat()


def test_a_breaker_is_reset_by_a_person_once_its_cause_is_gone_and_not_before(duties: Duties) -> None:
    world = open_world()
    bought(world, 80_000, "0.5")
    for number, price in enumerate(("0.5", "0.43")):
        closed(world, START_MINUTE + number, price)
        round_of(duties)
    assert open_causes() == {("DRAWDOWN", "REDUCING")}

    def resume() -> None:
        set_trading_state(
            account_id=world.account.pk, to_state=TradingState.ACTIVE, set_by="mara", reason="looked at"
        )  # fmt: skip

    with pytest.raises(StateRefused, match="DRAWDOWN persists"):
        resume()
    closed(world, START_MINUTE + 2, "0.49")
    round_of(duties)
    assert world.state.trading_state == TradingState.REDUCING
    resume()
    assert (world.state.trading_state, open_causes()) == ("ACTIVE", set())
    assert Account.objects.get().cash == D(60_000)
