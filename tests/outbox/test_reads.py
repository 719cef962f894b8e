"""A compiled read gives what its queryset gives, for any values, and costs one query."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import connection, transaction
from django.db.models import Count, Exists, OuterRef, QuerySet
from django.db.transaction import TransactionManagementError
from django.test.utils import CaptureQueriesContext

from apps.market.models import Instrument
from apps.outbox.models import OutboxEvent
from apps.outbox.reads import Read
from apps.portfolio.models import Account, TradingSession
from tests.factories import AccountFactory, OutboxEventFactory

pytestmark = pytest.mark.django_db


def of_type(event_type: str, after: int) -> QuerySet[OutboxEvent]:
    return OutboxEvent.objects.filter(event_type=event_type, pk__gt=after).order_by("-pk")


def counted(event_type: str, after: int) -> QuerySet[OutboxEvent, Any]:
    groups = of_type(event_type, after).order_by().values("event_type")
    return groups.annotate(events=Count("pk")).values_list("events", flat=True)


def pairs(event_type: str, after: int) -> QuerySet[OutboxEvent, Any]:
    return of_type(event_type, after).values_list("pk", "payload")


@pytest.fixture
def events() -> list[OutboxEvent]:
    names = ["SignalRaised", "IntentApproved", "SignalRaised", "it's %s \\ odd", "SignalRaised"]
    return [OutboxEventFactory.create(event_type=name, payload={"n": number}) for number, name in enumerate(names)]


@pytest.mark.parametrize("build", [of_type, counted, pairs])
def test_rows_are_those_of_the_queryset_for_any_values(build: Any, events: list[OutboxEvent]) -> None:
    read: Read[Any] = Read(build, str, int)
    for event_type in [*{event.event_type for event in events}, "nothing", ""]:
        for after in (0, events[0].pk, events[-1].pk):
            assert read.rows(event_type, after) == list(build(event_type, after))


def test_a_read_is_one_query_and_one_model_has_all_its_columns(events: list[OutboxEvent]) -> None:
    read = Read(of_type, str, int)
    read.rows("SignalRaised", 0)
    with CaptureQueriesContext(connection) as queries:
        found = read.first("SignalRaised", 0)
        assert found is not None
        assert (found.payload, found.created_at, found.pk) == ({"n": 4}, events[4].created_at, events[4].pk)
    assert len(queries) == 1


def test_related_models_and_annotations_come_with_it() -> None:
    account, other = AccountFactory.create(), AccountFactory.create()

    def build(pk: int) -> QuerySet[Account]:
        running = TradingSession.objects.filter(pk=OuterRef("session"), ended_at=None)
        return Account.objects.select_related("session__epoch").annotate(running=Exists(running)).filter(pk=pk)

    read = Read(build, int)
    for expected in (account, other, account):
        with CaptureQueriesContext(connection) as queries:
            found: Any = read.first(expected.pk)
            assert (found, found.session, found.session.epoch) == (expected, expected.session, expected.session.epoch)
            assert (found.running, found.cash) == (True, expected.cash)
        assert len(queries) == 1
    found.cash = 5
    found.save()
    assert Account.objects.get(pk=account.pk).cash == 5


def test_nothing_found_is_none() -> None:
    assert Read(of_type, str, int).first("SignalRaised", 0) is None


def test_a_shape_that_swallows_a_value_is_refused() -> None:
    with pytest.raises(ValueError, match="not every value is a parameter"):
        Read(lambda symbol, _: Instrument.objects.filter(symbol=symbol), str, int).rows("XRPUSDT", 1)


@pytest.mark.django_db(transaction=True)
def test_a_row_is_locked_within_a_transaction_only() -> None:
    account = AccountFactory.create()
    read = Read(lambda pk: Account.objects.select_for_update().filter(pk=pk), int)
    with transaction.atomic():
        assert read.first(account.pk) == account
    with pytest.raises(TransactionManagementError, match="within a transaction"):
        read.first(account.pk)
