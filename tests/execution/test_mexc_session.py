"""A session at the local exchange: real sockets from the decision to a reconciliation without difference."""

from __future__ import annotations

import io
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import redis
from django.conf import settings
from django.core.management import CommandError, call_command
from django.db import connection
from django.utils import timezone

from apps.bus.budget import BURST, REFILL_PER_SECOND
from apps.execution.models import Order, ReconcileRun
from apps.execution.selectors import NoVenue, venue_of
from apps.execution.services import reconcile, sync_order
from apps.execution.services.listening import exchange_terms
from apps.execution.services.submitting import request_of
from apps.execution.venues.mexc import VenueRefused
from apps.execution.venues.wire import IdsOfThisLife
from apps.outbox.models import OutboxEvent
from apps.portfolio.models import Position, Reservation
from cdb_project.private_stream import listener
from tests import factories
from tests.exchange.helpers import PrivateExchange, private_exchange
from tests.execution.books import books_agree
from tests.execution.exchange_desks import AFTER_MS
from tests.execution.exchange_venue import SYMBOL
from tests.worlds import World, open_world
from workers.exchange.limits import Limits
from workers.exchange.synthetic import SyntheticSource
from workers.private_stream.listener import Listener

PATIENCE_SECONDS = 60.0


def until(condition: Callable[[], bool]) -> None:
    """Wait for what another thread does."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.fixture
def exchange(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, redis_client: redis.Redis) -> Iterator[PrivateExchange]:
    """The local exchange, and its key and secret where a session looks for them. The budget in Redis is full."""
    source, limits = SyntheticSource(1, AFTER_MS), Limits(rest_weight_max=None, tick_seconds=0.02)
    monkeypatch.setattr(settings, "SECRETS_DIR", tmp_path)
    with private_exchange(tmp_path, source=source, limits=limits) as one:
        one.key_file.rename(tmp_path / "exchange_key")
        one.secret_file.rename(tmp_path / "exchange_secret")
        one.pin("0.5", "0.52", symbol=SYMBOL)
        yield one


def terms(exchange: PrivateExchange, **changes: str) -> dict[str, str]:
    return {"kind": "exchange", "rest_url": exchange.url, "ws_url": exchange.ws_url, **changes}


@contextmanager
def listening() -> Iterator[Listener]:
    """What `manage.py private_stream` becomes, in a thread."""
    one = listener()

    def run() -> None:
        one.run()
        connection.close()

    thread = threading.Thread(target=run)
    thread.start()
    try:
        until(lambda: one.counts.opened > 0)
        yield one
    finally:
        one.stop()
        thread.join(PATIENCE_SECONDS)
        assert not thread.is_alive()


def follow(order: Order, followed: set[int]) -> bool:
    """Do once what the worker does for every bell that was rung for the order; whether it is filled then."""
    rung = OutboxEvent.objects.filter(event_type="ExecutionReported", payload__order_id=order.pk)
    for event in rung.exclude(pk__in=followed):
        sync_order(order_id=event.payload["order_id"])
        followed.add(event.pk)
    order.refresh_from_db()
    return order.status == "FILLED"


@pytest.mark.django_db(transaction=True)
def test_an_intent_is_filled_at_the_exchange_heard_of_booked_and_reconciled(exchange: PrivateExchange) -> None:
    factories.DatabaseIncarnationFactory.create(token="a1b2c3")
    world = open_world(venue=terms(exchange))
    intent = world.approved(world.entry_signal())
    with listening() as heard:
        order = world.send(intent)
        assert order is not None
        assert (order.venue, [row["clientOrderId"] for row in exchange.account()["orders"]]) == (
            "mexc", [f"a1b2c3-{intent.client_order_id}"],
        )  # fmt: skip
        exchange.pin("0.5", "0.5001", "5000", SYMBOL)
        followed: set[int] = set()  # each asks the exchange, and what may be asked is limited
        until(lambda: follow(order, followed))
        assert heard.counts.rung > 0
        assert heard.counts.unreadable == 0
    assert not Reservation.objects.get().active
    assert Position.objects.get().quantity == order.quantity == 4_000
    assert exchange.account()["listen_keys"] == 0
    books_agree(world)
    until(lambda: reconciled(world))
    run = ReconcileRun.objects.latest("id")
    assert (run.differences, run.compared["orders"] + run.compared["trades"] > 0) == (0, True)
    assert run.compared["balances"] == 2


def reconciled(world: World) -> bool:
    """Whether a run a minute later finds both books equal; one for which the budget was spent says nothing."""
    later_ms = time.time_ns() // 1_000_000 + 60_000
    run = reconcile(account_id=world.account.pk, scope=ReconcileRun.Scope.FULL, clock=lambda: later_ms)
    assert run.outcome in (ReconcileRun.Outcome.CLEAN, ReconcileRun.Outcome.UNCLEAR), run.found.all()
    if run.outcome == ReconcileRun.Outcome.UNCLEAR:
        time.sleep(BURST / REFILL_PER_SECOND)  # whoever asks sooner spends what comes in and never has enough
    return run.outcome == ReconcileRun.Outcome.CLEAN


@pytest.mark.django_db
def test_what_a_restored_database_sends_again_is_another_order_at_the_exchange(exchange: PrivateExchange) -> None:
    """Yesterday's trigger comes again, for an order that the exchange has and the database has forgotten."""
    factories.DatabaseIncarnationFactory.create(token="aaaaaa")
    world = open_world(venue=terms(exchange))
    intent = world.approved(world.entry_signal())
    order, ids, venue = world.send(intent), IdsOfThisLife(), venue_of(world.session)
    assert order is not None
    name = order.client_order_id
    before, again = f"aaaaaa-{name}", f"bbbbbb-{name}"
    assert ids.out(name) == before
    factories.DatabaseIncarnationFactory.create(token="bbbbbb", reason="restored")
    assert (ids.out(name), ids.ours(before), ids.ours(again)) == (before, name, again)  # it was in the backup
    Order.objects.update(created_at=timezone.now())  # it was not, and is made anew
    assert (ids.out(name), ids.ours(before), ids.ours(again)) == (again, before, name)
    assert venue.query(name) is None
    venue.submit(request_of(intent))
    assert {row["clientOrderId"] for row in exchange.account()["orders"]} == {before, again}
    assert {row.client_order_id for row in venue.open_orders()} == {before, name}


@pytest.mark.django_db
@pytest.mark.parametrize("wire", ["", "-", "x", "aaaaaa-", "aaaaaa-somebody", "somebody-else-1"])
def test_an_id_that_no_order_here_has_stays_as_it_came(wire: str) -> None:
    factories.DatabaseIncarnationFactory.create(token="aaaaaa")
    assert IdsOfThisLife().ours(wire) == wire


ADDRESSES = [
    {"rest_url": "https://api.mexc.com"},
    {"rest_url": "http://10.0.0.7:8001"},
    {"ws_url": "wss://wbs-api.mexc.com/ws"},
    {"ws_url": "ws://10.0.0.7:8001/ws"},
    {"ws_url": "ws://127.0.0.1:8001/other"},
    {"ws_url": ""},
    {"leverage": "3"},
]


@pytest.mark.django_db
@pytest.mark.parametrize("changes", ADDRESSES, ids=str)
def test_a_session_that_names_another_place_is_refused_before_anything_is_sent(
    exchange: PrivateExchange, changes: dict[str, str]
) -> None:
    world = open_world(venue=terms(exchange, **changes))
    with pytest.raises(VenueRefused):
        venue_of(world.session)
    with pytest.raises(CommandError) as refusal:
        call_command("private_stream", stdout=io.StringIO())
    assert refusal.value.returncode == 2


@pytest.mark.django_db
@pytest.mark.parametrize("name", ["exchange_key", "exchange_secret"])
def test_a_session_begins_at_the_exchange_only_with_its_key_and_secret(exchange: PrivateExchange, name: str) -> None:
    assert exchange_terms(exchange.url, exchange.ws_url) == terms(exchange)
    (Path(settings.SECRETS_DIR) / name).unlink()
    with pytest.raises(VenueRefused, match=name):
        exchange_terms(exchange.url, exchange.ws_url)


@pytest.mark.django_db
@pytest.mark.parametrize("venue", [{"kind": "real"}, {"kind": ""}])
def test_a_venue_that_nobody_knows_is_none(venue: dict[str, Any]) -> None:
    with pytest.raises(NoVenue, match="known: paper, exchange"):
        venue_of(open_world(venue=venue).session)


@pytest.mark.django_db
def test_there_is_nothing_to_hear_without_a_session_or_on_paper() -> None:
    for words in ("no session is running", "has no private stream"):
        with pytest.raises(CommandError, match=words) as refusal:
            call_command("private_stream", stdout=io.StringIO())
        assert refusal.value.returncode == 2
        open_world()
