"""The admin: everything can be read and followed, nothing that happened can be touched, and no list asks per row."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import pairwise

import pytest
from django.contrib import admin
from django.contrib.auth.models import Group, User
from django.db import connection, models
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from apps.market.models import ScreenerRule
from apps.risk.admin import check_rows
from apps.risk.models import TierChange
from apps.signals.models import Strategy, StrategyVersion
from tests.admin.rows import make_denied, make_everything, make_road
from tests.factories import BarFactory, EquityPointFactory, LedgerEntryFactory

pytestmark = pytest.mark.django_db

PEOPLE = (User, Group)
ADDABLE = (ScreenerRule, StrategyVersion, TierChange)  # test_following, test_versions_and_tiers
EDITABLE = (*PEOPLE, Strategy, *ADDABLE)
REGISTERED = sorted(admin.site._registry, key=lambda model: model._meta.label)
RECORDS = [model for model in REGISTERED if model not in EDITABLE]
REQUIRED = {
    "market.Instrument", "market.FeedEpoch", "market.ShardCursor", "market.Bar", "market.Coverage", "market.IngestRun",
    "market.FeedConnection", "market.EpochInstrument", "market.Gap", "market.FeedTransition", "market.IngestLease",
    "market.KlineDoubt", "market.ArchivedShard", "market.LongerBar",
    "market.ScreenerRule", "market.ScreenerRun", "outbox.OutboxEvent", "portfolio.TradingSession", "portfolio.Account",
    "portfolio.LedgerEntry", "portfolio.Position", "portfolio.Reservation", "portfolio.EquityPoint", "signals.Strategy",
    "signals.StrategyVersion", "signals.Signal", "risk.RiskLimits", "risk.RiskState", "risk.RiskStateChange",
    "risk.RiskDecision", "risk.TierChange", "signals.ParameterSchedule", "risk.OrderIntent",
    "execution.Order", "execution.Trade", "backtest.BacktestRun", "signals.StrategyFailure", "alerts.Alert",
}  # fmt: skip


def url(model: type[models.Model], action: str, *arguments: object) -> str:
    return reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_{action}", args=arguments)


@pytest.fixture
def staff(admin_client: Client) -> Client:
    return admin_client


def test_every_table_of_the_road_is_registered() -> None:
    assert {model._meta.label for model in REGISTERED} >= REQUIRED


@pytest.mark.parametrize("model", RECORDS, ids=lambda model: model._meta.label)
def test_a_record_can_be_read_but_not_added_changed_or_deleted_even_by_a_superuser(
    staff: Client, model: type[models.Model]
) -> None:
    make_everything()
    row = model._default_manager.order_by("pk").last()
    assert row is not None, f"{model} has no row: the check would compare nothing"
    before = model._default_manager.values().get(pk=row.pk)
    assert staff.get(url(model, "changelist")).status_code == 200
    assert staff.get(url(model, "change", row.pk)).status_code == 200
    assert staff.get(url(model, "history", row.pk)).status_code == 200
    for refused in (url(model, "add"), url(model, "delete", row.pk)):
        assert staff.get(refused).status_code == 403
        assert staff.post(refused, {"post": "yes"}).status_code == 403
    assert staff.post(url(model, "change", row.pk), {"status": "x"}).status_code == 403
    assert staff.post(
        url(model, "changelist"), {"action": "delete_selected", "_selected_action": row.pk}
    ).status_code in (200, 302, 403)
    assert model._default_manager.values().get(pk=row.pk) == before


def test_the_description_of_a_strategy_is_all_that_can_be_edited_of_it(staff: Client) -> None:
    strategy = make_everything().signal.strategy_version.strategy
    answer = staff.post(
        url(Strategy, "change", strategy.pk),
        {
            "description": "Better words.",
            "name": "other",
            "versions-TOTAL_FORMS": "0",
            "versions-INITIAL_FORMS": "0",
            "versions-MIN_NUM_FORMS": "0",
            "versions-MAX_NUM_FORMS": "0",
        },
    )
    assert answer.status_code == 302
    strategy.refresh_from_db()
    assert (strategy.name, strategy.description) == ("momentum", "Better words.")
    assert staff.get(url(Strategy, "add")).status_code == 403
    assert staff.post(url(Strategy, "delete", strategy.pk), {"post": "yes"}).status_code == 403


def queries_of(staff: Client, model: type[models.Model]) -> int:
    with CaptureQueriesContext(
        connection,
    ) as captured:
        assert staff.get(url(model, "changelist")).status_code == 200
    return len(captured)


@pytest.mark.parametrize("model", REGISTERED, ids=lambda model: model._meta.label)
def test_a_list_asks_the_same_number_of_queries_however_many_rows_it_has(
    staff: Client, model: type[models.Model]
) -> None:
    road = make_everything()
    queries_of(staff, model)  # fills the caches of content types and of the user
    with_few = queries_of(staff, model)
    for symbol in ("ETHUSDT", "SOLUSDT", "ADAUSDT"):
        more = make_road(symbol, road.session)
        BarFactory.create(epoch=road.session.epoch, instrument=more.instrument)
        EquityPointFactory.create(account=road.account)
        LedgerEntryFactory.create(account=road.account)
        make_denied(road.session, more.instrument)
    assert queries_of(staff, model) == with_few


@pytest.mark.parametrize("model", REGISTERED, ids=lambda model: model._meta.label)
def test_a_list_can_be_searched_and_filtered_without_an_error(staff: Client, model: type[models.Model]) -> None:
    make_everything()
    model_admin = admin.site._registry[model]
    assert model_admin.search_fields, f"{model} cannot be searched"
    for term in ("XRPUSDT", "1", "' OR 1=1 --"):
        assert staff.get(url(model, "changelist"), {"q": term}).status_code == 200
    page = staff.get(url(model, "changelist")).content.decode()
    offered = set(re.findall(r'href="(\?[^"]+)"', page))
    for query in offered:
        assert staff.get(url(model, "changelist") + query.replace("&amp;", "&")).status_code == 200


def links_of(staff: Client, row: models.Model) -> set[str]:
    page = staff.get(url(type(row), "change", row.pk)).content.decode()
    return {link.replace("&amp;", "&") for link in re.findall(r'class="cdb-link" href="([^"]+)"', page)}


def pages_behind(staff: Client, links: set[str]) -> Iterator[str]:
    for link in links:
        answer = staff.get(link, follow=True)
        assert answer.status_code == 200, link
        yield answer.content.decode()


def test_the_road_can_be_walked_from_the_signal_to_the_ledger_and_back(staff: Client) -> None:
    road = make_everything()
    steps = [road.signal, road.decision, road.intent, road.order, road.trade, road.position]
    for here, there in [*pairwise(steps), *pairwise(reversed(steps))]:
        found = links_of(staff, here)
        direct = url(type(there), "change", there.pk) in found
        behind = any(url(type(there), "change", there.pk) in page for page in pages_behind(staff, found))
        assert direct or behind, f"no way from {here!r} to {there!r}"
    assert any(
        url(type(road.leg), "change", road.leg.pk) in page for page in pages_behind(staff, links_of(staff, road.trade))
    )
    assert any(
        url(type(road.trade), "change", road.trade.pk) in page
        for page in pages_behind(staff, links_of(staff, road.leg))
    )


def test_money_is_shown_with_every_stored_digit(staff: Client) -> None:
    road = make_everything()
    page = staff.get(url(type(road.leg), "change", road.leg.pk)).content.decode()
    assert 'data-raw="-50.025000000000000001">−50.025000000000000001<' in page
    listed = staff.get(url(type(road.leg), "changelist")).content.decode()
    assert "−50.025000000000000001" in listed


def test_prices_and_quantities_have_the_decimals_of_the_instrument(staff: Client) -> None:
    road = make_everything()
    page = staff.get(url(type(road.order), "change", road.order.pk)).content.decode()
    assert 'data-raw="0.51">0.5100<' in page
    assert 'data-raw="100">100.00<' in page


def test_event_times_are_times_in_utc(staff: Client) -> None:
    road = make_everything()
    page = staff.get(url(type(road.signal), "change", road.signal.pk)).content.decode()
    assert '<time class="cdb-time" datetime="2023-11-14T22:15:00.500Z">2023-11-14 22:15:00.500 UTC</time>' in page
    bars = staff.get(reverse("admin:market_bar_changelist")).content.decode()
    assert re.search(r'<time class="cdb-time" datetime="[^"]+:00.000Z">\d{4}-\d\d-\d\d \d\d:\d\d UTC</time>', bars)


def test_what_was_never_known_is_a_dash_and_not_a_zero(staff: Client) -> None:
    road = make_everything()
    page = staff.get(url(type(road.position), "change", road.position.pk)).content.decode()
    closed = page[page.index("Closed") :]
    assert re.search(r"readonly[^>]*>\s*—", closed[:1200])


def test_a_denied_decision_shows_its_sentence_and_the_failed_check_first(staff: Client) -> None:
    road = make_everything()
    page = staff.get(url(type(road.denied), "change", road.denied.pk)).content.decode()
    assert "Denied: gross exposure would be 30 365.1 of 30 000 USDT." in page
    codes = re.findall(r'data-code="(\w+)"', page)
    assert codes == ["EXPOSURE", "CASH"]
    assert 'data-raw="30365.1"' in page
    assert page.index("gross exposure</td>") < page.index("free cash</td>")
    assert page.index("cdb-verdict-sentence") < page.index('data-code="EXPOSURE"')


@pytest.mark.parametrize(
    ("check", "shown"),
    [
        ({"code": "STALE_FEED", "value": "68", "limit": "2000"}, ("0.0 s", "2.0 s")),
        ({"code": "PRICE_COLLAR", "value": "0.00315", "limit": "0.02"}, ("0.32\u202f%", "2.00\u202f%")),
        ({"code": "EXPOSURE", "value": "2039.9999820072", "limit": "50000"}, ("2\u202f039.9999820072", "50\u202f000")),
        ({"code": "HALTED", "value": None, "limit": None}, ("—", "—")),
        ({"code": "SOMETHING_NEW", "value": "many", "limit": ""}, ("many", "—")),
    ],
)
def test_a_check_is_shown_in_the_unit_of_its_figures(check: dict[str, str | None], shown: tuple[str, str]) -> None:
    row = check_rows([check])[0]
    assert (row["value"], row["limit"]) == shown


def test_a_decision_without_stored_checks_says_so(staff: Client) -> None:
    road = make_everything()
    type(road.denied).objects.filter(pk=road.denied.pk).update(checks=[])
    page = staff.get(url(type(road.denied), "change", road.denied.pk)).content.decode()
    assert "No check was stored with this decision." in page


def test_hostile_text_in_a_record_is_shown_as_text(staff: Client) -> None:
    road = make_everything()
    attack = '"><script>alert(1)</script><img src=x onerror=alert(1)>'
    type(road.order).objects.filter(pk=road.order.pk).update(reason=attack)
    type(road.denied).objects.filter(pk=road.denied.pk).update(
        checks=[{"code": attack, "value": attack}], sentence=attack
    )
    for page in (
        url(type(road.order), "changelist"),
        url(type(road.order), "change", road.order.pk),
        url(type(road.denied), "change", road.denied.pk),
        reverse("live:board"),
    ):
        html = staff.get(page).content.decode()
        assert "<script>alert" not in html
        assert "<img src=x" not in html
