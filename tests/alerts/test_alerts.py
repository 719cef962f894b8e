"""Alerts: one open per kind and subject, counted up, acknowledged by a person with a reason; everybody sees them."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.core.management import call_command
from django.core.management.base import CommandError
from django.db import connections
from django.db.models.functions import Now
from django.test import Client
from django.urls import reverse

from apps.alerts.models import SUBJECT_MAX, WORDS_MAX, Alert
from apps.alerts.selectors import OPEN_MAX, open_alerts, open_by_kind
from apps.alerts.services import AlertRefused, acknowledge, raise_alert, settle
from apps.ops.metrics import alerts_family
from apps.ops.selectors.state import read_state
from apps.ops.sentence import Severity
from apps.portfolio.models import TradingSession
from apps.signals.models import ParameterSchedule, SessionStrategy
from tests import factories
from tests.worlds import open_world

pytestmark = pytest.mark.django_db


def failed(subject: str = "momentum in session 1", words: str = "It failed.") -> Alert:
    return raise_alert(
        kind=Alert.Kind.STRATEGY_FAILED, severity=Alert.Severity.WARNING, subject=subject, words=words
    )  # fmt: skip


def differs(subject: str = "session 1 on 2026-11-21") -> Alert:
    return raise_alert(
        kind=Alert.Kind.PARITY_DIFFERENCE, severity=Alert.Severity.CRITICAL, subject=subject, words="It differs."
    )


def test_what_happens_again_is_counted_while_the_alert_is_open_and_raised_anew_afterwards() -> None:
    first = failed(words="On XRPUSDT.")
    assert failed(words="On BTCUSDT.").pk == first.pk
    first.refresh_from_db()
    assert (first.count, first.words) == (2, "On BTCUSDT.")
    assert first.last_at > first.raised_at
    acknowledge(alert_id=first.pk, by="mara", reason="seen")
    second = failed()
    assert (second.pk != first.pk, second.count) == (True, 1)
    first.refresh_from_db()
    assert first.count == 2


@pytest.mark.parametrize("other", [lambda: failed("other in session 1"), lambda: differs("momentum in session 1")])
def test_another_kind_or_subject_is_another_alert(other: Callable[[], Alert]) -> None:
    assert failed().pk != other().pk
    assert Alert.objects.count() == 2


def test_texts_are_cut_to_what_fits_and_stay_in_a_line() -> None:
    row = failed("x" * 500, "first\nsecond\x1b[31m\tthird " + "y" * 500)
    assert (len(row.subject), len(row.words)) == (SUBJECT_MAX, WORDS_MAX)
    assert row.words.startswith("first second [31m third yyy")


@pytest.mark.django_db(transaction=True)
def test_processes_that_raise_it_at_once_share_one_alert() -> None:
    def one(_: int) -> int:
        try:
            return failed().pk
        finally:
            connections.close_all()

    with ThreadPoolExecutor(4) as pool:
        assert len(set(pool.map(one, range(12)))) == 1
    assert Alert.objects.get().count == 12


@pytest.mark.parametrize(
    ("by", "reason", "words"),
    [
        ("", "seen", "say who"),
        ("mara", " \n", "say why"),
        ("m" * 151, "seen", "say who"),
        ("mara", "r" * 201, "say why"),
    ],
)
def test_an_acknowledgement_without_a_name_or_a_reason_is_refused(by: str, reason: str, words: str) -> None:
    row = failed()
    with pytest.raises(AlertRefused, match=words):
        acknowledge(alert_id=row.pk, by=by, reason=reason)
    row.refresh_from_db()
    assert row.acknowledged_at is None


def test_the_second_one_to_acknowledge_is_told_who_was_faster() -> None:
    row = failed()
    acknowledge(alert_id=row.pk, by="mara", reason="seen")
    with pytest.raises(AlertRefused, match="by mara already: seen"):
        acknowledge(alert_id=row.pk, by="oli", reason="me too")
    with pytest.raises(AlertRefused, match="there is no alert"):
        acknowledge(alert_id=row.pk + 1, by="oli", reason="me too")


def test_settling_closes_the_open_alert_of_a_subject_only() -> None:
    row, other = failed(), differs()
    assert settle(kind=Alert.Kind.STRATEGY_FAILED, subject=row.subject, by="mara", reason="enabled") == 1
    assert settle(kind=Alert.Kind.STRATEGY_FAILED, subject=row.subject, by="mara", reason="enabled") == 0
    assert open_alerts() == [other]


def test_open_ones_are_listed_critical_first_and_bounded() -> None:
    old, new, critical = failed("a"), failed("b"), differs()
    assert open_alerts() == [critical, old, new]
    for number in range(OPEN_MAX):
        failed(f"c{number}")
    assert len(open_alerts()) == OPEN_MAX


# --- where they are seen ----------------------------------------------------------------------------------------------


def test_every_kind_is_a_series_of_the_metric_zeros_included() -> None:
    failed("a")
    failed("b")
    samples = {row.labels["kind"]: row.value for row in alerts_family(open_by_kind()).samples}
    assert samples == dict.fromkeys(Alert.Kind.values, 0.0) | {"strategy_failed": 2.0}
    assert alerts_family({}).name == "cdb_alerts_open"


def test_the_metrics_page_tells_them(client: Client) -> None:
    failed()
    assert 'cdb_alerts_open{kind="strategy_failed"} 1.0' in client.get("/metrics").content.decode()


def test_the_sentence_says_so_until_it_is_acknowledged_with_or_without_a_session() -> None:
    failed(words="momentum v3 failed.")
    found = read_state(1).sentence
    assert (found.situation, found.severity) == ("alert", Severity.WARNING)
    assert found.line == "momentum v3 failed. Acknowledge the alert when you have looked."
    row = differs()
    differs()
    found = read_state(1).sentence
    assert found.severity == Severity.CRITICAL
    assert found.line == "It differs. 2 times. Acknowledge the alert when you have looked. 1 more alert is open."
    factories.TradingSessionFactory.create()
    assert "It differs." in read_state(1).sentence.line
    TradingSession.objects.update(ended_at=Now())
    for pk in (row.pk, Alert.objects.get(kind=Alert.Kind.STRATEGY_FAILED).pk):
        acknowledge(alert_id=pk, by="mara", reason="seen")
    assert read_state(1).sentence.situation == "no-session"


# --- by hand ----------------------------------------------------------------------------------------------------------


def staff(*permissions: str) -> Client:
    user = User.objects.create_user("mara", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__in=permissions))
    client = Client()
    client.force_login(user)
    return client


def test_who_may_acknowledges_in_the_admin_with_a_reason() -> None:
    row = failed(words="<b>It failed.</b>")
    client = staff("view_alert", "acknowledge_alert")
    page = reverse("admin:alerts_alert_acknowledge_alert", args=(row.pk,))
    assert "&lt;b&gt;It failed." in client.get(page).content.decode()
    assert "This field is required" in client.post(page, {"reason": ""}).content.decode()
    assert client.post(page, {"reason": "a bad tick"}).status_code == 302
    row.refresh_from_db()
    assert (row.acknowledged_by, row.reason) == ("mara", "a bad tick")
    answer = client.post(page, {"reason": "again"}, follow=True)
    assert "was acknowledged by mara already" in answer.content.decode()


def test_who_may_only_look_does_not() -> None:
    row = failed()
    client = staff("view_alert")
    page = reverse("admin:alerts_alert_acknowledge_alert", args=(row.pk,))
    assert client.post(page, {"reason": "a bad tick"}).status_code == 403
    row.refresh_from_db()
    assert row.acknowledged_at is None


def disabled() -> SessionStrategy:
    world = open_world()
    binding = factories.SessionStrategyFactory.create(session=world.session, version=world.version)
    factories.ParameterScheduleFactory.create(session=world.session, base=world.version, enabled=False)
    return binding


def enabling(client: Client, binding: SessionStrategy) -> Any:
    page = reverse("admin:signals_sessionstrategy_enable_again", args=(binding.pk,))
    assert client.get(page).status_code in (200, 403)
    return client.post(page, {"reason": "tried on a copy"}, follow=True)


def test_who_may_enables_a_strategy_again_in_the_admin() -> None:
    binding = disabled()
    answer = enabling(staff("view_sessionstrategy", "enable_strategy"), binding)
    assert "judges again from" in answer.content.decode()
    row = ParameterSchedule.objects.latest("id")
    assert (row.enabled, row.set_by, row.reason) == (True, "mara", "tried on a copy")


def test_who_may_not_enable_is_refused() -> None:
    assert enabling(staff("view_sessionstrategy"), disabled()).status_code == 403
    assert ParameterSchedule.objects.count() == 1


def test_alerts_are_listed_and_acknowledged_on_the_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    row = failed()
    call_command("alerts", "list")
    assert f"{row.pk:>6}  warning   strategy_failed" in capsys.readouterr().out
    call_command("alerts", "acknowledge", str(row.pk), reason="seen", by="mara")
    capsys.readouterr()
    call_command("alerts", "list")
    assert capsys.readouterr().out.strip() == "no alert is open"
    with pytest.raises(CommandError, match="by mara already"):
        call_command("alerts", "acknowledge", str(row.pk), reason="seen", by="oli")
