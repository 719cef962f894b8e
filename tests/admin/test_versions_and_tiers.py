"""Adding versions of strategies and moving tiers by hand, by those who may."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client
from django.urls import reverse

from apps.risk.models import TierChange
from apps.signals.models import ParameterSchedule, SessionStrategy, StrategyVersion
from apps.signals.services.versions import add_version
from tests import factories
from tests.worlds import World, open_world

pytestmark = pytest.mark.django_db

ADD_VERSION = reverse("admin:signals_strategyversion_add")
ADD_MOVE = reverse("admin:risk_tierchange_add")


def staff(*permissions: str) -> Client:
    user = User.objects.create_user("mara", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__in=permissions))
    client = Client()
    client.force_login(user)
    return client


def first_version() -> StrategyVersion:
    return add_version(name="momentum", changes={}, author="oli", reason="to begin with", engine_hash="0" * 64)


def add(client: Client, version: StrategyVersion, changes: str, reason: str = "fewer false starts") -> Any:
    form = {"strategy": version.strategy_id, "assignments": changes, "reason": reason, "author": "somebody else"}
    return client.post(ADD_VERSION, form)


def test_a_version_is_added_under_the_name_of_who_adds_it_and_shows_what_it_changed() -> None:
    client = staff("view_strategyversion", "add_strategyversion")
    answer = add(client, first_version(), "threshold_pct=2.5\nrsi_min=55")
    row = StrategyVersion.objects.latest("version")
    assert answer.status_code == 302
    assert (row.version, row.author, row.reason) == (2, "mara", "fewer false starts")
    assert row.changes == {"threshold_pct": [2.0, 2.5], "rsi_min": [50.0, 55.0]}
    page = client.get(reverse("admin:signals_strategyversion_change", args=(row.pk,))).content.decode()
    assert "threshold_pct 2.0 → 2.5" in page
    assert "rsi_min 50.0 → 55.0" in page
    assert "threshold_pct 2.0 → 2.5" in client.get(reverse("admin:signals_strategyversion_changelist")).content.decode()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ("rsi_min=101", "rsi_min=101 is not from 0 to 100 (points from 0 to 100)"),
        ("rsi=50", "there is no parameter rsi"),
        ("rsi_min", "is not of the form name=value"),
        ("", "This field is required."),
    ],
)
def test_a_version_that_the_strategy_refuses_is_refused_in_its_words(changes: str, words: str) -> None:
    version = first_version()
    answer = add(staff("view_strategyversion", "add_strategyversion"), version, changes)
    assert answer.status_code == 200
    assert words in answer.content.decode()
    assert StrategyVersion.objects.count() == 1


def test_a_version_without_a_reason_is_refused() -> None:
    answer = add(staff("view_strategyversion", "add_strategyversion"), first_version(), "rsi_min=40", reason="")
    assert "This field is required." in answer.content.decode()


def test_a_version_is_never_changed_in_the_admin(admin_client: Client) -> None:
    row = first_version()
    change = reverse("admin:signals_strategyversion_change", args=(row.pk,))
    assert admin_client.post(change, {"reason": "other"}).status_code == 403
    delete = reverse("admin:signals_strategyversion_delete", args=(row.pk,))
    assert admin_client.post(delete, {"post": "yes"}).status_code == 403
    row.refresh_from_db()
    assert row.reason == "to begin with"


def running() -> World:
    world = open_world()
    factories.SessionStrategyFactory.create(session=world.session, version=world.version)
    return world


def move(client: Client, tier: str, reason: str = "a careful week") -> Any:
    return client.post(ADD_MOVE, {"binding": SessionStrategy.objects.get().pk, "to_tier": tier, "reason": reason})


def test_who_may_override_moves_a_tier_by_hand_with_a_reason() -> None:
    running()
    client = staff("view_tierchange", "override_tier")
    assert move(client, "LOW_TRUST").status_code == 302
    row = TierChange.objects.get()
    assert (row.from_tier, row.to_tier, row.cause, row.set_by, row.reason) == (
        "NORMAL", "LOW_TRUST", "person", "mara", "a careful week",
    )  # fmt: skip
    assert ParameterSchedule.objects.get().from_minute == row.from_minute
    assert "0.0% to 100.0%" in client.get(reverse("admin:risk_tierchange_changelist")).content.decode()


@pytest.mark.parametrize(
    ("tier", "reason", "words"),
    [
        ("NORMAL", "why not", "is NORMAL already"),
        ("BRAVE", "why not", "not one of the available choices"),
        ("LOW_TRUST", "", "This field is required."),
    ],
)
def test_a_move_that_means_nothing_is_refused_in_words(tier: str, reason: str, words: str) -> None:
    running()
    answer = move(staff("view_tierchange", "override_tier"), tier, reason)
    assert answer.status_code == 200
    assert words in answer.content.decode()
    assert not TierChange.objects.exists()


def test_a_move_that_the_feed_refuses_is_said_and_changes_nothing() -> None:
    world = running()
    other = factories.TradingSessionFactory.create(epoch=world.epoch, name="the other one")
    factories.SessionStrategyFactory.create(session=other, version=world.version)
    client = staff("view_tierchange", "override_tier")
    binding = SessionStrategy.objects.get(session=world.session)
    form = {"binding": binding.pk, "to_tier": "LOW_TRUST", "reason": "x"}
    answer = client.post(ADD_MOVE, form, follow=True)
    assert "they share one evaluation" in answer.content.decode()
    assert not TierChange.objects.exists()
    assert StrategyVersion.objects.count() == 1


def test_who_may_only_look_moves_and_adds_nothing() -> None:
    running()
    client = staff("view_tierchange", "view_strategyversion", "add_tierchange")
    assert client.get(ADD_MOVE).status_code == 403
    assert move(client, "LOW_TRUST").status_code == 403
    assert client.get(ADD_VERSION).status_code == 403
    assert not TierChange.objects.exists()
