"""Halting, reducing, resuming and flattening on the staff pages, by those who may, each after a confirmation."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client
from django.urls import reverse

from apps.ops.services.session_ends import end_session
from apps.risk.models import RiskStateChange, ScopedState, StateRefusal, TradingState, TripCause
from apps.risk.services import set_trading_state
from apps.risk.services.trips import trip_account
from apps.signals.models import Signal
from tests import factories
from tests.worlds import World, open_world

pytestmark = pytest.mark.django_db

LOOK, CHANGE, RESUME = "view_riskstate", "change_trading_state", "resume_trading"


def staff(*permissions: str) -> Client:
    user = User.objects.create_user("mara", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__in=permissions))
    client = Client()
    client.force_login(user)
    return client


def running() -> World:
    world = open_world()
    factories.SessionStrategyFactory.create(session=world.session, version=world.version)
    return world


def url(world: World, name: str) -> str:
    return reverse(f"admin:risk_riskstate_{name}", args=(world.state.pk,))


def press(client: Client, world: World, name: str, about: str = "account:", reason: str = "odd") -> Any:
    return client.post(url(world, name), {"about": about, "reason": reason}, follow=True)


@pytest.mark.parametrize(
    ("name", "button", "words"),
    [
        ("halt", "Halt trading", "exits neither"),
        ("reduce", "Only reduce", "Nothing is opened any more"),
        ("resume", "Resume trading", "refused while the cause of a trip persists"),
        ("flatten", "Sell every position", "This cannot be taken back"),
    ],
)
def test_each_change_has_a_page_that_says_what_it_means_and_changes_nothing(name: str, button: str, words: str) -> None:
    world = running()
    client = staff(LOOK, CHANGE, RESUME)
    page = client.get(url(world, name)).content.decode()
    assert button in page
    assert words in page
    assert not RiskStateChange.objects.exists()
    assert not Signal.objects.exists()


@pytest.mark.parametrize(
    ("name", "about", "state"),
    [("halt", "account:", "HALTED"), ("reduce", "strategy:momentum", "REDUCING"), ("halt", "symbol:XRPUSDT", "HALTED")],
)
def test_a_change_is_made_under_the_name_of_who_presses_with_the_reason(name: str, about: str, state: str) -> None:
    world = running()
    page = press(staff(LOOK, CHANGE), world, name, about).content.decode()
    row = RiskStateChange.objects.get()
    assert (row.to_state, row.set_by, row.reason, f"{row.scope}:{row.subject}") == (state, "mara", "odd", about)
    assert ("exits neither" in page) == (state == "HALTED")
    if about != "account:":
        assert f"{state} {about.replace(':', ' ')}" in page  # the page of the account's state shows every scope


@pytest.mark.parametrize(("about", "reason"), [("account:", ""), ("symbol:NOUSDT", "odd"), ("galaxy:", "odd")])
def test_a_change_without_a_reason_or_of_something_unknown_is_asked_again(about: str, reason: str) -> None:
    world = running()
    assert press(staff(LOOK, CHANGE), world, "halt", about, reason).status_code == 200
    assert not RiskStateChange.objects.exists()


@pytest.mark.parametrize(
    ("permissions", "name"),
    [((LOOK,), "halt"), ((LOOK,), "flatten"), ((LOOK, CHANGE), "resume"), ((LOOK, RESUME), "halt")],
)
def test_who_may_not_is_refused_and_the_attempt_is_kept(permissions: tuple[str, ...], name: str) -> None:
    world = running()
    client = staff(*permissions)
    assert client.get(url(world, name)).status_code == 403
    assert not StateRefusal.objects.exists()
    assert press(client, world, name).status_code == 403
    row = StateRefusal.objects.get()
    assert (row.asked, row.set_by, row.reason) == (name, "mara", "odd")
    assert "permission" in row.why
    assert not RiskStateChange.objects.exists()


def test_who_may_only_make_it_stricter_does_not_let_exits_through_again() -> None:
    world = running()
    set_trading_state(account_id=world.account.pk, to_state=TradingState.HALTED, set_by="oli", reason="odd")
    page = press(staff(LOOK, CHANGE), world, "reduce").content.decode()
    assert "Refused: you may not let trading go on." in page
    assert world.state.trading_state == "HALTED"
    assert StateRefusal.objects.get().why == "you may not let trading go on"


def test_resuming_while_a_cause_persists_is_refused_told_and_kept() -> None:
    world = running()
    trip_account(account_id=world.account.pk, cause=TripCause.ERROR_RATE, evidence={"failed": "3"}, reason="3 of 10")
    client = staff(LOOK, CHANGE, RESUME)
    page = press(client, world, "resume").content.decode()
    assert "Refused: ERROR_RATE persists: 3 of 10." in page
    assert "way back: a person" in page
    assert StateRefusal.objects.get().asked == "ACTIVE"
    assert world.state.trading_state == "REDUCING"


def test_flatten_sells_on_the_normal_road_and_a_second_press_sells_nothing_twice() -> None:
    world = running()
    factories.PositionFactory.create(
        account=world.account, instrument=world.instruments["XRPUSDT"], strategy_version_id=world.version.pk
    )
    client = staff(LOOK, CHANGE)
    assert "1 position will be sold." in press(client, world, "flatten").content.decode()
    assert "0 positions will be sold; 1 already on the way." in press(client, world, "flatten").content.decode()
    assert Signal.objects.get().exit_reason == "flatten"


def test_a_scope_once_halted_is_resumed_on_the_same_page() -> None:
    world = running()
    client = staff(LOOK, CHANGE, RESUME)
    press(client, world, "halt", "symbol:XRPUSDT")
    press(client, world, "resume", "symbol:XRPUSDT", "fine")
    assert ScopedState.objects.get().trading_state == "ACTIVE"
    assert "ACTIVE already" in press(client, world, "resume", "symbol:XRPUSDT").content.decode()


def test_nobody_resumes_a_session_that_has_ended_and_that_is_told_and_kept() -> None:
    world = running()
    end_session(session_id=world.session.pk, by="noah", reason="enough", now=datetime(2026, 11, 21, tzinfo=UTC))
    page = press(staff(LOOK, CHANGE, RESUME), world, "resume").content.decode()
    assert "has ended" in page
    assert world.state.trading_state == TradingState.HALTED
    kept = StateRefusal.objects.get()
    assert (kept.asked, kept.set_by, kept.reason) == ("ACTIVE", "mara", "odd")
    assert "has ended" in kept.why
