"""`manage.py orders`: what is at work, one order in full, and taking one back; wrong input is one line."""

from __future__ import annotations

import io
import json

import pytest
from django.core.management import CommandError, call_command

from apps.execution.models import Order
from apps.execution.services import CancelRefused, cancel_order
from apps.execution.services import sync_order as sync
from apps.outbox.models import OutboxEvent
from apps.portfolio.models import Reservation
from tests.worlds import World, open_world

pytestmark = pytest.mark.django_db


def run(*words: str) -> str:
    out = io.StringIO()
    call_command("orders", *words, stdout=out)
    return out.getvalue()


def sent(world: World) -> Order:
    world.send(world.approved(world.entry_signal()))
    return Order.objects.get()


def test_what_is_at_work_is_listed_and_what_has_ended_is_not() -> None:
    order = sent(open_world())
    assert f"{order.client_order_id}  BUY  XRPUSDT    0 of 4000 limit 0.51  ACCEPTED" in run("list")
    assert json.loads(run("list", "--json"))[0]["status"] == "ACCEPTED"
    Order.objects.update(status="FILLED")
    assert run("list").strip() == "no order is at work"
    assert "FILLED" in run("list", "--all")


def test_an_order_is_shown_with_its_steps_under_either_of_its_names() -> None:
    order = sent(open_world())
    for name in (str(order.pk), order.client_order_id):
        text = run("show", name)
        assert "SUBMIT" in text
        assert "ACCEPT" in text


def test_a_cancel_is_written_down_and_left_to_the_worker_that_speaks_to_the_venue() -> None:
    order = sent(open_world())
    assert "asked for" in run("cancel", str(order.pk), "--reason", "a test", "--by", "mara")
    order.refresh_from_db()
    assert (order.status, order.events.last().detail) == ("ACCEPTED", "mara: a test")  # type: ignore[union-attr]
    assert OutboxEvent.objects.filter(event_type="ExecutionReported", payload={"order_id": order.pk}).exists()
    assert Reservation.objects.get().active
    sync(order_id=order.pk)
    order.refresh_from_db()
    assert order.status == "CANCELED"


def test_an_order_that_never_left_ends_at_once() -> None:
    world = open_world()
    world.send(world.approved(world.entry_signal()))
    Order.objects.update(status="INITIALIZED")
    order = Order.objects.get()
    assert "it ended unsent" in run("cancel", str(order.pk), "--reason", "a test")
    assert not Reservation.objects.get().active


@pytest.mark.parametrize(
    ("words", "refusal"),
    [
        (("cancel", "4711", "--reason", "x"), "there is no order 4711"),
        (("show", "nothing"), "there is no order nothing"),
        (("show", "²"), "there is no order ²"),
        (("cancel", "{}", "--reason", "   "), "say why"),
        (("cancel", "{}", "--reason", "x" * 201), "say why"),
        (("cancel", "{}", "--reason", "x", "--by", "y" * 151), "say who"),
    ],
)
def test_wrong_input_is_one_line(words: tuple[str, ...], refusal: str) -> None:
    order = sent(open_world())
    with pytest.raises(CommandError, match=refusal) as error:
        run(*(word.replace("{}", str(order.pk)) for word in words))
    assert error.value.returncode == 2
    assert "\n" not in str(error.value)


def test_an_order_that_has_ended_is_not_canceled() -> None:
    order = sent(open_world())
    Order.objects.update(status="FILLED")
    with pytest.raises(CancelRefused, match="is FILLED already"):
        cancel_order(order_id=order.pk, reason="late", by="mara")
