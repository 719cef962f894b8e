"""Orders and anomalies in the admin: who may take an order back, who may say what an anomaly was."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client
from django.urls import reverse

from apps.execution.models import Order, OrderAnomaly
from apps.execution.services import AnomalyRefused, resolve_anomaly
from tests.factories.odd import OrderAnomalyFactory
from tests.worlds import World, open_world

pytestmark = pytest.mark.django_db


def sent(world: World) -> Order:
    world.send(world.approved(world.entry_signal()))
    return Order.objects.get()


def staff(*codenames: str) -> Client:
    user = User.objects.create_user("mara", password="x", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__in=codenames))
    client = Client()
    client.force_login(user)
    return client


def test_whoever_may_can_ask_for_a_cancel_on_the_orders_page() -> None:
    order = sent(open_world())
    page = reverse("admin:execution_order_cancel_order", args=(order.pk,))
    client = staff("view_order", "cancel_order")
    assert "A fill may be faster" in client.get(page).content.decode()
    client.post(page, {"reason": "not any more"})
    order.refresh_from_db()
    assert order.cancel_asked_at is not None
    assert order.events.last().detail == "mara: not any more"  # type: ignore[union-attr]


def test_without_the_permission_nothing_is_canceled_or_resolved() -> None:
    order, anomaly = sent(open_world()), OrderAnomalyFactory.create()
    client = staff("view_order", "view_orderanomaly")
    for page in (
        reverse("admin:execution_order_cancel_order", args=(order.pk,)),
        reverse("admin:execution_orderanomaly_resolve_anomaly", args=(anomaly.pk,)),
    ):
        assert client.post(page, {"reason": "x"}).status_code == 403
    order.refresh_from_db()
    assert order.cancel_asked_at is None
    assert OrderAnomaly.objects.get().resolved_at is None


def test_an_anomaly_is_resolved_once_with_who_and_what_it_was() -> None:
    row = OrderAnomalyFactory.create()
    client = staff("view_orderanomaly", "resolve_orderanomaly")
    client.post(reverse("admin:execution_orderanomaly_resolve_anomaly", args=(row.pk,)), {"reason": "bought by hand"})
    row.refresh_from_db()
    assert (row.resolved_by, row.resolution) == ("mara", "bought by hand")
    with pytest.raises(AnomalyRefused, match="resolved by mara already: bought by hand"):
        resolve_anomaly(anomaly_id=row.pk, by="oli", resolution="again")
    with pytest.raises(AnomalyRefused, match="there is no anomaly"):
        resolve_anomaly(anomaly_id=row.pk + 1, by="oli", resolution="again")
