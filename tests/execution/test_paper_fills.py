"""The paper road with a real stream: an approved order meets the quote in force at its maturity, and is booked once."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from threading import Barrier

import pytest
import redis
from django.db import connection
from django.db.models import Sum

from apps.engine.desk.book import MarkSet
from apps.engine.money import to_money
from apps.execution.models import Order, OrderEvent, Trade, VenueOrder, VenueTrade
from apps.execution.services import match_orders, sync_order
from apps.execution.venues.matching import match_shard
from apps.execution.venues.quotes import Reader, Search, Wanted
from apps.market.models import ShardCursor
from apps.portfolio.models import LedgerEntry, Position, Reservation
from apps.portfolio.selectors import read_book
from apps.risk.models import OrderIntent
from tests.factories import CoverageFactory
from tests.worlds import TRIGGER_MS, World, open_world, quotes, trades, watermark

D = Decimal
T = TRIGGER_MS
MATURE = T + 150
pytestmark = pytest.mark.django_db

# ticks of 0.0001: bid 0.5000, ask 0.5002, 10 000.00 on each side
WIDE = (5_000, 1_000_000, 5_002, 1_000_000)


def opening(world: World, client: redis.Redis) -> OrderIntent:
    """An approved and sent buy, triggered at T by the trade in the stream's second entry."""
    world.publish(client, quotes((T - 5_000, 4_990, 1, 5_010, 1)), trades((T - 4_000, 5_000)))
    entry = world.publish(client, trades((T, 5_000), ordinal=2))
    intent = world.approved(world.entry_signal(ts_event=T, entry_id=entry))
    world.send(intent)
    return intent


def ledger_is_sound(world: World) -> None:
    for row in LedgerEntry.objects.values("reference", "currency").annotate(sum=Sum("amount")):
        assert row["sum"] == 0, row
    legs = LedgerEntry.objects.filter(account=world.account, kind="cash")
    assert legs.aggregate(sum=Sum("amount"))["sum"] == world.cash() >= 0
    for position in Position.objects.all():
        signed = sum(row.quantity if row.side == "BUY" else -row.quantity for row in position.trades.all())
        assert position.quantity == signed >= 0
    state, book = world.state, read_book(world.account.pk)
    assert state.exposure == to_money(book.exposure(MarkSet.from_json(state.marks).prices))


def test_a_buy_fills_at_the_ask_in_force_at_its_maturity_and_opens_a_position(
    redis_client: redis.Redis, tmp_path: Path
) -> None:
    world = open_world()
    intent = opening(world, redis_client)
    world.publish(redis_client, quotes((MATURE, *WIDE), (MATURE + 1, 5_050, 1, 5_060, 1)), watermark(T + 1_000))
    world.reach(T + 1_000)
    assert world.match(redis_client, tmp_path) == 1
    trade, position = Trade.objects.get(), Position.objects.get()
    # 0.5002 plus one basis point is 0.50025002: up to the tick
    assert (trade.price, trade.quantity, trade.ts_event) == (D("0.5003"), D(4_000), MATURE)
    assert (trade.fee, trade.fee_currency) == (D("1.0006"), "USDT")
    assert (position.quantity, position.entry_price, position.fees) == (D(4_000), D("0.5003"), D("1.0006"))
    assert (position.stop_price, position.target_price) == (D("0.490294"), D("0.520312"))
    assert (position.opened_ts, position.due_ts) == (MATURE, MATURE + 3_600_000)
    assert (position.opened_by, position.trigger_entry) == (intent.client_order_id, intent.decision.signal.entry_id)
    assert world.cash() == D(100_000) - D("2001.2") - D("1.0006")
    order = Order.objects.get()
    assert (order.status, order.filled_qty, order.leaves_qty, order.avg_px) == ("FILLED", D(4_000), D(0), D("0.5003"))
    reservation = Reservation.objects.get()
    assert (reservation.active, reservation.amount, reservation.notional) == (False, D(0), D(0))
    assert world.state.exposure == D(2_000)  # 4 000 at the decision's mark
    ledger_is_sound(world)


def test_the_venue_keeps_the_quote_that_it_filled_against(redis_client: redis.Redis, tmp_path: Path) -> None:
    world = open_world()
    opening(world, redis_client)
    world.publish(redis_client, quotes((T + 20, *WIDE)), watermark(T + 1_000))
    world.reach(T + 1_000)
    world.match(redis_client, tmp_path)
    assert VenueTrade.objects.get().quote == {
        "ts_event": T + 20, "bid": "0.5", "bid_quantity": "10000", "ask": "0.5002", "ask_quantity": "10000",
    }  # fmt: skip


def test_quotes_that_lie_before_the_trigger_on_the_stream_count_too(redis_client: redis.Redis, tmp_path: Path) -> None:
    """The exchange sends the quotes of a tick ahead of its trades."""
    world = open_world()
    world.publish(redis_client, quotes((T - 9_000, 4_990, 1, 5_010, 1)), trades((T - 9_000, 5_000)))
    world.publish(redis_client, quotes((T + 100, *WIDE)))
    entry = world.publish(redis_client, trades((T, 5_000), ordinal=2), watermark(T + 1_000))
    world.send(world.approved(world.entry_signal(ts_event=T, entry_id=entry)))
    world.reach(T + 1_000)
    world.match(redis_client, tmp_path)
    assert Trade.objects.get().price == D("0.5003")


def test_without_a_newer_quote_the_one_known_at_the_signal_is_in_force(
    redis_client: redis.Redis, tmp_path: Path
) -> None:
    world = open_world()
    opening(world, redis_client)  # the signal's own: 0.4999 / 0.5001
    world.publish(redis_client, quotes((MATURE + 1, *WIDE)), watermark(T + 1_000))
    world.reach(T + 1_000)
    world.match(redis_client, tmp_path)
    assert Trade.objects.get().price == D("0.5002")


def test_nothing_is_matched_before_the_watermark_has_passed_the_maturity(
    redis_client: redis.Redis, tmp_path: Path
) -> None:
    world = open_world()
    opening(world, redis_client)
    world.publish(redis_client, watermark(MATURE - 1))
    world.reach(MATURE - 1)
    assert world.match(redis_client, tmp_path) == 0
    world.publish(redis_client, watermark(MATURE))
    world.reach(MATURE)
    assert world.match(redis_client, tmp_path) == 1


def test_an_order_of_a_shard_that_nothing_covers_any_more_expires_when_the_market_has_passed_it(
    redis_client: redis.Redis, tmp_path: Path
) -> None:
    world = open_world(("XRPUSDT", "ADAUSDT"))
    opening(world, redis_client)
    ShardCursor.objects.filter(shard=world.shard("XRPUSDT")).update(watermark_ms=None)
    world.reach(MATURE - 1, "ADAUSDT")
    assert world.match(redis_client, tmp_path) == 0
    world.reach(MATURE, "ADAUSDT")
    assert world.match(redis_client, tmp_path) == 1
    assert Order.objects.get().reason.startswith("FEED_GAP: the stream around its maturity was lost")
    assert not Reservation.objects.get().active


def test_a_quote_of_a_replaced_ingest_fills_no_order(redis_client: redis.Redis, tmp_path: Path) -> None:
    world = open_world()
    opening(world, redis_client)
    world.publish(redis_client, replace(quotes((MATURE, *WIDE)), token=2))
    world.publish(redis_client, quotes((MATURE, 4_000, 1_000_000, 4_001, 1_000_000)))
    world.publish(redis_client, replace(watermark(T + 1_000), token=2))
    world.reach(T + 1_000)
    world.match(redis_client, tmp_path)
    assert Trade.objects.get().price > D("0.5")


def test_an_order_whose_price_ran_away_expires_and_frees_its_money(redis_client: redis.Redis, tmp_path: Path) -> None:
    world = open_world()
    opening(world, redis_client)
    world.publish(redis_client, quotes((MATURE, 5_200, 1, 5_201, 1)), watermark(T + 1_000))
    world.reach(T + 1_000)
    world.match(redis_client, tmp_path)
    order = Order.objects.get()
    assert order.status == "EXPIRED"
    assert order.reason.startswith("LIMIT: the price would be 0.5207, the limit is 0.51")
    assert not Reservation.objects.get().active
    assert not Position.objects.exists()
    assert world.state.exposure == 0
    ledger_is_sound(world)


def test_without_any_quote_an_order_expires(redis_client: redis.Redis, tmp_path: Path) -> None:
    world = open_world()
    entry = world.publish(redis_client, trades((T, 5_000)), watermark(T + 1_000))
    signal = world.entry_signal(ts_event=T, entry_id=entry)
    world.send(world.approved(signal))
    VenueOrder.objects.update(known_quote=None)
    world.reach(T + 1_000)
    world.match(redis_client, tmp_path)
    assert Order.objects.get().reason.startswith("NO_QUOTE")


def test_in_an_unproven_minute_an_order_expires(redis_client: redis.Redis, tmp_path: Path) -> None:
    world = open_world()
    intent = opening(world, redis_client)
    world.publish(redis_client, quotes((MATURE, *WIDE)), watermark(T + 1_000))
    world.reach(T + 1_000)
    CoverageFactory.create(
        epoch=world.epoch, instrument=intent.instrument, minute=MATURE // 60_000, reason="gap of 3 s"
    )  # fmt: skip
    world.match(redis_client, tmp_path)
    order = Order.objects.get()
    assert (order.status, order.reason) == (
        "EXPIRED", "FEED_GAP: the minute in which it matured is UNPROVEN (gap of 3 s)",
    )  # fmt: skip


def test_a_backfilled_minute_is_no_gap(redis_client: redis.Redis, tmp_path: Path) -> None:
    world = open_world()
    intent = opening(world, redis_client)
    world.publish(redis_client, quotes((MATURE, *WIDE)), watermark(T + 1_000))
    world.reach(T + 1_000)
    CoverageFactory.create(
        epoch=world.epoch, instrument=intent.instrument, minute=MATURE // 60_000, status="backfilled"
    )  # fmt: skip
    world.match(redis_client, tmp_path)
    assert Order.objects.get().status == "FILLED"


def held(world: World, client: redis.Redis, segments: Path) -> Position:
    """A position that was bought through the whole road."""
    opening(world, client)
    world.publish(client, quotes((MATURE, *WIDE)), watermark(T + 1_000))
    world.reach(T + 1_000)
    world.match(client, segments)
    return Position.objects.get()


def leave(world: World, client: redis.Redis, position: Position, *, ts_event: int) -> OrderIntent:
    entry = world.publish(client, trades((ts_event, 4_900), ordinal=3))
    intent = world.approved(world.exit_signal(position, ts_event=ts_event, entry_id=entry, price=D("0.49")))
    world.send(intent)
    return intent


def test_an_exit_fills_at_the_bid_and_closes_the_position(redis_client: redis.Redis, tmp_path: Path) -> None:
    world = open_world()
    position = held(world, redis_client, tmp_path)
    cash = world.cash()
    leave(world, redis_client, position, ts_event=T + 60_000)
    # only half of the order fits the bid: 1 + 10 * 0.5 basis points, down to the tick
    world.publish(redis_client, quotes((T + 60_150, 4_900, 200_000, 4_902, 1)), watermark(T + 61_000))
    world.reach(T + 61_000)
    world.match(redis_client, tmp_path)
    position.refresh_from_db()
    trade = Trade.objects.get(side="SELL")
    assert (trade.price, trade.quantity, trade.position) == (D("0.4897"), D(4_000), position)
    assert (position.status, position.quantity, position.closed_ts) == ("closed", D(0), T + 60_150)
    assert position.realized == (D("0.4897") - D("0.5003")) * 4_000
    assert position.fees == D("1.0006") + D("0.9794")
    assert world.cash() == cash + D("1958.8") - D("0.9794")
    assert world.state.exposure == 0
    assert [trade.sequence for trade in Trade.objects.order_by("id")] == [3, 5]
    ledger_is_sound(world)


def test_an_exit_that_expires_may_be_raised_again_but_not_into_the_same_gap(
    redis_client: redis.Redis, tmp_path: Path
) -> None:
    world = open_world()
    position = held(world, redis_client, tmp_path)
    Position.objects.update(due_ts=T + 60_000)
    leave(world, redis_client, position, ts_event=T + 60_000)
    minute = (T + 60_150) // 60_000
    CoverageFactory.create(epoch=world.epoch, instrument=position.instrument, minute=minute)
    world.publish(redis_client, watermark(T + 61_000))
    world.reach(T + 61_000)
    world.match(redis_client, tmp_path)
    position.refresh_from_db()
    assert (position.status, position.exit_attempts) == ("open", 1)
    assert position.due_ts == (minute + 1) * 60_000
    assert Order.objects.get(side="SELL").status == "EXPIRED"
    ledger_is_sound(world)


# --- twice, killed in between, at the same time -----------------------------------------------------------------------


def test_everything_may_be_done_twice_at_every_stage(redis_client: redis.Redis, tmp_path: Path) -> None:
    world = open_world()
    intent = opening(world, redis_client)
    world.publish(redis_client, quotes((MATURE, *WIDE)), watermark(T + 1_000))
    world.reach(T + 1_000)
    for _ in range(2):
        world.decide(intent.decision.signal)
        world.send(intent)
        world.match(redis_client, tmp_path)
        sync_order(order_id=Order.objects.get().pk)
    assert Trade.objects.count() == VenueTrade.objects.count() == Position.objects.count() == 1
    assert LedgerEntry.objects.filter(reference__startswith="trade:").count() == 6
    assert OrderEvent.objects.count() == 3
    ledger_is_sound(world)


def test_a_fill_that_was_made_and_not_booked_is_booked_by_asking(redis_client: redis.Redis, tmp_path: Path) -> None:
    world = open_world()
    opening(world, redis_client)
    world.publish(redis_client, quotes((MATURE, *WIDE)), watermark(T + 1_000))
    world.reach(T + 1_000)
    shard = world.shard()
    match_shard(epoch=world.epoch.pk, shard=shard, reader=Reader(redis_client, tmp_path, world.epoch.pk, shard))
    assert not Trade.objects.exists()
    sync_order(order_id=Order.objects.get().pk)
    assert Trade.objects.get().position == Position.objects.get()
    ledger_is_sound(world)


def test_a_fill_may_overtake_the_answer_to_the_request(redis_client: redis.Redis, tmp_path: Path) -> None:
    world = open_world()
    opening(world, redis_client)
    Order.objects.update(status="SUBMITTING", venue_order_id="")
    world.publish(redis_client, quotes((MATURE, *WIDE)), watermark(T + 1_000))
    world.reach(T + 1_000)
    world.match(redis_client, tmp_path)
    assert Order.objects.get().status == "FILLED"
    ledger_is_sound(world)


class Overtaken(Reader):
    """While this one reads the stream, another worker matches the same shard."""

    def find(self, wanted: list[Wanted]) -> dict[str, Search]:
        found = super().find(wanted)
        other = Reader(self.client, self.segments, self.epoch, self.shard)
        assert len(match_shard(epoch=self.epoch, shard=self.shard, reader=other)) == 1
        return found


def test_an_order_that_another_worker_has_ended_meanwhile_is_left_alone(
    redis_client: redis.Redis, tmp_path: Path
) -> None:
    world = open_world()
    opening(world, redis_client)
    world.publish(redis_client, quotes((MATURE, *WIDE)), watermark(T + 1_000))
    world.reach(T + 1_000)
    shard, epoch = world.shard(), world.epoch.pk
    assert match_shard(epoch=epoch, shard=shard, reader=Overtaken(redis_client, tmp_path, epoch, shard)) == []
    assert VenueTrade.objects.count() == 1


@pytest.mark.django_db(transaction=True)
def test_several_workers_that_match_at_once_fill_once(redis_client: redis.Redis, tmp_path: Path) -> None:
    world = open_world()
    opening(world, redis_client)
    world.publish(redis_client, quotes((MATURE, *WIDE)), watermark(T + 1_000))
    world.reach(T + 1_000)
    shard, epoch, barrier = world.shard(), world.epoch.pk, Barrier(3)
    order_id = Order.objects.get().pk

    def worker(job: Callable[[], object]) -> None:
        barrier.wait(timeout=20)
        try:
            job()
        finally:
            connection.close()

    def match() -> object:
        return match_orders(epoch=epoch, shard=shard, reader=Reader(redis_client, tmp_path, epoch, shard))

    with ThreadPoolExecutor(3) as pool:
        list(pool.map(worker, [match, match, lambda: sync_order(order_id=order_id)]))
    sync_order(order_id=order_id)
    assert Trade.objects.count() == VenueTrade.objects.count() == Position.objects.count() == 1
    assert Order.objects.get().status == "FILLED"
    ledger_is_sound(world)
