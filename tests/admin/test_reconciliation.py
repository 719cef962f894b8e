"""Deciding a difference on its page: what is said first, who may, and that a reason is given."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client
from django.urls import reverse

from apps.execution.models import ReconcileDifference
from apps.portfolio.models import LedgerEntry
from tests.factories import ReconcileDifferenceFactory, ReconcileRunFactory
from tests.worlds import open_world

pytestmark = pytest.mark.django_db


@pytest.fixture
def row() -> ReconcileDifference:
    """Cash of 100 000 here, 99 000 at the venue, as it was when somebody looked."""
    return ReconcileDifferenceFactory.create(run=ReconcileRunFactory.create(account=open_world().account))


@pytest.fixture
def staff(client: Client) -> Client:
    """Staff who may look and not decide."""
    user = User.objects.create_user("oli", password="a long password", is_staff=True)
    user.user_permissions.add(Permission.objects.get(codename="view_reconciledifference"))
    client.force_login(user)
    return client


def url(row: ReconcileDifference, verb: str) -> str:
    return reverse(f"admin:execution_reconciledifference_{verb}_difference", args=(row.pk,))


def test_the_page_says_what_will_be_done_and_does_it_only_with_a_reason(
    admin_client: Client, row: ReconcileDifference
) -> None:
    page = admin_client.get(url(row, "dismiss")).content.decode()
    assert "Ours: 100000. Venue: 99000." in page
    assert "Dismissing books nothing" in page
    admin_client.post(url(row, "dismiss"), {"reason": ""})
    assert ReconcileDifference.objects.get().state == "open"
    admin_client.post(url(row, "dismiss"), {"reason": "in transit"})
    row.refresh_from_db()
    assert (row.state, row.decided_by, row.reason) == ("dismissed", "admin", "in transit")


def test_what_cannot_be_approved_is_said_on_the_page_and_moves_nothing(
    admin_client: Client, row: ReconcileDifference
) -> None:
    answer = admin_client.post(url(row, "approve"), {"reason": "yes"}, follow=True)
    assert "not there any more" in answer.content.decode()
    assert not LedgerEntry.objects.exclude(reference="deposit").exists()


@pytest.mark.parametrize("verb", ["approve", "dismiss"])
def test_who_may_not_decide_decides_nothing(staff: Client, row: ReconcileDifference, verb: str) -> None:
    assert staff.get(url(row, verb)).status_code == 403
    assert staff.post(url(row, verb), {"reason": "yes"}).status_code == 403
    assert ReconcileDifference.objects.get().state == "open"
