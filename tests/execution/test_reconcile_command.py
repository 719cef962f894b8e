"""`manage.py reconcile`, its task and its page: what a person sees and decides."""

from __future__ import annotations

import io
import json
from decimal import Decimal
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.core.management import CommandError, call_command
from django.test import Client
from django.urls import reverse

from apps.execution import tasks
from apps.execution.models import ReconcileDifference, ReconcileRun, VenueOrder, VenueTrade
from apps.portfolio.models import Account, LedgerEntry
from tests.factories import ReconcileDifferenceFactory, ReconcileRunFactory
from tests.worlds import World, open_world

D = Decimal
pytestmark = pytest.mark.django_db


def command(*arguments: str) -> tuple[int, str]:
    """(exit code, what it printed)."""
    out = io.StringIO()
    try:
        call_command("reconcile", *arguments, stdout=out)
    except SystemExit as end:
        return int(end.code or 0), out.getvalue()
    return 0, out.getvalue()


def difference(world: World, **fields: Any) -> ReconcileDifference:
    return ReconcileDifferenceFactory.create(run=ReconcileRunFactory.create(account=world.account), **fields)


def test_a_paper_session_agrees_with_its_venue_and_says_what_was_compared() -> None:
    open_world()
    code, text = command()
    assert code == 0
    assert text.splitlines()[0] == "clean: compared 0 orders, 0 trades, 1 balances"


def test_a_run_that_compared_nothing_is_exit_code_1() -> None:
    open_world()
    code, text = command("--scope", "orders")
    assert (code, "compared 0" in text) == (1, True)


def test_an_open_difference_is_exit_code_1_and_a_line_of_the_table() -> None:
    world = open_world()
    row = difference(world, kind="TRADE_UNKNOWN_AT_VENUE", subject="t1", client_order_id="c1", correction="none")
    code, text = command("--json", "--scope", "orders")
    facts = json.loads(text)
    assert (code, facts["outcome"], [one["id"] for one in facts["differences"]]) == (1, "empty", [row.pk]) or (
        facts["differences"] == [] and ReconcileDifference.objects.get().state == "resolved"
    )


def test_without_a_session_it_says_so() -> None:
    with pytest.raises(CommandError, match="no session is running") as error:
        command()
    assert error.value.returncode == 2


def test_a_person_dismisses_with_a_reason() -> None:
    row = difference(open_world())
    code, text = command("dismiss", str(row.pk), "--reason", "in transit", "--by", "kim")
    row.refresh_from_db()
    assert (code, text.strip()) == (0, "BALANCE USDT: Dismissed by kim: in transit")
    assert (row.state, row.decided_by, row.reason) == ("dismissed", "kim", "in transit")


def test_a_decision_that_cannot_be_taken_is_one_line() -> None:
    world = open_world()
    row = difference(world)
    with pytest.raises(CommandError, match="not there any more") as error:
        command("approve", str(row.pk), "--reason", "yes", "--by", "kim")
    assert error.value.returncode == 2
    assert Account.objects.get(pk=world.account.pk).cash == D(100_000)


@pytest.mark.parametrize("scope", ["orders", "full"])
def test_beat_compares_the_running_session(scope: str) -> None:
    tasks.reconcile(scope)  # none is running: nothing to do
    open_world()
    tasks.reconcile(scope)
    assert ReconcileRun.objects.get().scope == scope


def test_a_fill_that_the_paper_venue_has_and_we_have_not_is_found() -> None:
    """An order that nobody here made: its fill moves the venue's balance, and nothing here."""
    world = open_world()
    order = VenueOrder.objects.create(
        owner=f"session:{world.session.pk}", epoch_id=world.epoch.pk, shard=0, client_order_id="x-1", symbol="XRPUSDT",
        instrument_id=world.instruments["XRPUSDT"].pk, side="BUY", quantity=D(10), limit_price=D("0.5"), ts_trigger=1,
        ts_mature=1, scan_from="1-0", terms={"taker_fee": "0"}, status="filled", filled_quantity=D(10),
    )  # fmt: skip
    VenueTrade.objects.create(
        order=order, price=D("0.5"), quantity=D(10), fee=D(0), fee_currency="USDT", ts_event=1, quote={}
    )  # fmt: skip
    tasks.reconcile("full")
    suspect = ReconcileRun.objects.get().suspects
    assert [key.partition(":")[0] for key in suspect] == ["TRADE_MISSING_HERE"]


# --- the page ---------------------------------------------------------------------------------------------------------
@pytest.fixture
def staff(client: Client) -> Client:
    """Staff who may look and not decide."""
    user = User.objects.create_user("oli", password="a long password", is_staff=True)
    user.user_permissions.add(Permission.objects.get(codename="view_reconciledifference"))
    client.force_login(user)
    return client


def url(row: ReconcileDifference, verb: str) -> str:
    return reverse(f"admin:execution_reconciledifference_{verb}_difference", args=(row.pk,))


def test_the_page_says_what_will_be_done_and_does_it_only_with_a_reason(admin_client: Client) -> None:
    row = difference(open_world())
    page = admin_client.get(url(row, "dismiss")).content.decode()
    assert "Ours: 100000. Venue: 99000." in page
    assert "Dismissing books nothing" in page
    admin_client.post(url(row, "dismiss"), {"reason": ""})
    assert ReconcileDifference.objects.get().state == "open"
    admin_client.post(url(row, "dismiss"), {"reason": "in transit"})
    row.refresh_from_db()
    assert (row.state, row.decided_by, row.reason) == ("dismissed", "admin", "in transit")


def test_what_cannot_be_approved_is_said_on_the_page_and_moves_nothing(admin_client: Client) -> None:
    row = difference(open_world())
    answer = admin_client.post(url(row, "approve"), {"reason": "yes"}, follow=True)
    assert "not there any more" in answer.content.decode()
    assert not LedgerEntry.objects.exclude(reference="deposit").exists()


@pytest.mark.parametrize("verb", ["approve", "dismiss"])
def test_who_may_not_decide_decides_nothing(staff: Client, verb: str) -> None:
    row = difference(open_world())
    assert staff.get(url(row, verb)).status_code == 403
    assert staff.post(url(row, verb), {"reason": "yes"}).status_code == 403
    assert ReconcileDifference.objects.get().state == "open"
