"""Transactions that are run again after a conflict, on real conflicts of real PostgreSQL."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier, Event

import pytest
from django.db import OperationalError, connection, transaction

from apps.outbox.models import OutboxEvent
from apps.outbox.transactions import retry_tx, sqlstate
from tests.factories import OutboxEventFactory

pytestmark = pytest.mark.django_db(transaction=True)


def lock(pk: int) -> None:
    OutboxEvent.objects.select_for_update().get(pk=pk)


def test_a_deadlock_is_run_again_and_both_sides_end_well() -> None:
    first, second = OutboxEventFactory.create().pk, OutboxEventFactory.create().pk
    barrier, tries = Barrier(2), []

    def cross(mine: int, other: int) -> None:
        meet = [True]

        def both() -> None:
            tries.append(mine)
            lock(mine)
            if meet:
                meet.clear()
                barrier.wait(timeout=20)
            lock(other)
            OutboxEvent.objects.filter(pk=other).update(payload={"by": mine})

        try:
            retry_tx(both)
        finally:
            connection.close()

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(cross, (first, second), (second, first)))
    assert len(tries) == 3
    assert {event.payload["by"] for event in OutboxEvent.objects.all()} == {first, second}


def test_a_lock_that_is_held_too_long_is_waited_for_again() -> None:
    pk = OutboxEventFactory.create().pk
    held, go_on = Event(), Event()

    def hold() -> None:
        with transaction.atomic():
            lock(pk)
            held.set()
            go_on.wait(timeout=20)
        connection.close()

    tries = []

    def want() -> None:
        tries.append(1)
        with connection.cursor() as cursor:
            cursor.execute("SET LOCAL lock_timeout = '50ms'")
        if len(tries) == 2:
            go_on.set()
        lock(pk)

    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(hold)
        assert held.wait(timeout=20)
        retry_tx(want)
        running.result(timeout=20)
    assert len(tries) >= 2


def test_it_gives_up_after_the_last_try() -> None:
    tries = []

    def conflict() -> None:
        tries.append(1)
        with connection.cursor() as cursor:
            cursor.execute("DO $$ BEGIN RAISE SQLSTATE '40001'; END $$")

    with pytest.raises(OperationalError) as failure:
        retry_tx(conflict, tries=3)
    assert sqlstate(failure.value) == "40001"
    assert len(tries) == 3


def test_what_no_repetition_would_mend_is_raised_at_once() -> None:
    tries = []

    def fail() -> None:
        tries.append(1)
        with connection.cursor() as cursor:
            cursor.execute("SET LOCAL statement_timeout = '10ms'")
            cursor.execute("SELECT pg_sleep(5)")

    with pytest.raises(OperationalError):
        retry_tx(fail)
    assert len(tries) == 1


def test_inside_an_open_transaction_it_refuses() -> None:
    with pytest.raises(RuntimeError, match="durable"), transaction.atomic():
        retry_tx(OutboxEvent.objects.count)


def test_what_a_failed_try_wrote_is_gone() -> None:
    tries = []

    def write() -> None:
        tries.append(1)
        OutboxEventFactory.create()
        if len(tries) < 3:
            with connection.cursor() as cursor:
                cursor.execute("DO $$ BEGIN RAISE SQLSTATE '40P01'; END $$")

    retry_tx(write)
    assert (len(tries), OutboxEvent.objects.count()) == (3, 1)
