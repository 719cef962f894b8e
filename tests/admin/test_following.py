"""Asking for symbols and adding a screener's rule in the admin: with permission, a reason, and under one's own name."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import redis
from django.conf import settings
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission, User
from django.test import Client
from django.urls import reverse

from apps.market.models import EpochInstrument, FeedEpoch, ScreenerRule
from tests import factories
from tests.admin.rows import make_everything
from tests.market.answers import Answer, Scripted, scripted
from tests.market.ledger import member
from tests.market.test_screener import info, row

pytestmark = pytest.mark.django_db

RULE = {
    "mode": "turnover", "count": "20", "quote_asset": "usdt", "turnover_min": "100000", "always": "AAAUSDT, BBBUSDT",
    "never": "", "refresh_minutes": "60", "reason": "more to look at",
}  # fmt: skip


@pytest.fixture
def exchange(monkeypatch: pytest.MonkeyPatch, redis_client: redis.Redis) -> Iterator[Scripted]:
    """What exchangeInfo says, at the address that the settings name."""
    with scripted(exchangeInfo=info(row("AAAUSDT"), row("BBBUSDT"), row("CCCUSDC", quoteAsset="USDC"))) as server:
        monkeypatch.setattr(settings, "EXCHANGE_REST_URL", server.url)
        monkeypatch.setattr(settings, "RUNTIME", {})
        yield server


@pytest.fixture
def epoch(exchange: Scripted) -> FeedEpoch:
    epoch = factories.FeedEpochFactory.create()
    member(epoch, "AAAUSDT")
    member(epoch, "BBBUSDT", followed=False)
    return epoch


def staff(*codenames: str) -> Client:
    user = User.objects.create_user("mara", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__in=codenames))
    client = Client()
    client.force_login(user)
    return client


def may_follow() -> Client:
    return staff("view_epochinstrument", "change_epochinstrument")


def page(name: str) -> str:
    return reverse(f"admin:market_epochinstrument_{name}")


def followed(epoch: FeedEpoch) -> dict[str, bool]:
    return dict(epoch.members.values_list("instrument__symbol", "followed"))


def test_a_symbol_is_followed_from_now_on_with_who_asked_and_why(epoch: FeedEpoch) -> None:
    client = may_follow()
    assert "Follow…" in client.get(page("changelist")).content.decode()
    answer = client.post(page("follow"), {"symbols": "BBBUSDT AAAUSDT", "reason": "it moves"}, follow=True)
    assert followed(epoch) == {"AAAUSDT": True, "BBBUSDT": True}
    row = EpochInstrument.objects.get(instrument__symbol="BBBUSDT")
    assert row.why == "mara: it moves"
    text = answer.content.decode()
    assert "Follow: BBBUSDT." in text
    assert "It was so already: AAAUSDT." in text
    entry = LogEntry.objects.get()
    assert (entry.user.get_username(), entry.object_id, entry.change_message) == (
        "mara",
        str(row.pk),
        "Follow: it moves",
    )


def test_a_symbol_is_let_go_from_its_own_page(epoch: FeedEpoch) -> None:
    client = may_follow()
    client.post(page("follow"), {"symbols": "BBBUSDT", "reason": "first"})
    row = EpochInstrument.objects.get(instrument__symbol="AAAUSDT")
    form = client.get(reverse("admin:market_epochinstrument_change_this", args=(row.pk,)), follow=True)
    assert form.request["PATH_INFO"] == page("stop_following")
    assert ">AAAUSDT</textarea>" in form.content.decode().replace("\n", "")
    client.post(page("stop_following"), {"symbols": "AAAUSDT", "reason": "too quiet"})
    row.refresh_from_db()
    assert (row.followed, row.why) == (False, "mara: too quiet")


@pytest.mark.parametrize(
    ("name", "fields", "words"),
    [
        ("follow", {"symbols": "bbbusdt", "reason": "x"}, "Not a symbol: bbbusdt"),
        ("follow", {"symbols": "NNNUSDT", "reason": "x"}, "the exchange does not list NNNUSDT"),
        ("follow", {"symbols": "CCCUSDC", "reason": "x"}, "CCCUSDC is quoted in USDC"),
        ("follow", {"symbols": "", "reason": "x"}, "Name at least one symbol."),
        ("follow", {"symbols": "BBBUSDT", "reason": ""}, "This field is required."),
        ("follow", {"symbols": "<script>alert(1)</script>", "reason": "x"}, "Not a symbol: &lt;script&gt;"),
        ("stop_following", {"symbols": "NNNUSDT", "reason": "x"}, "NNNUSDT was never followed here"),
        ("stop_following", {"symbols": "AAAUSDT", "reason": "x"}, "that would leave nothing to follow"),
    ],
)
def test_what_cannot_be_done_is_refused_in_words_and_changes_nothing(
    epoch: FeedEpoch, name: str, fields: dict[str, str], words: str
) -> None:
    answer = may_follow().post(page(name), fields)
    assert (answer.status_code, followed(epoch)) == (200, {"AAAUSDT": True, "BBBUSDT": False})
    assert words in answer.content.decode()


def test_an_exchange_that_does_not_answer_is_said_on_the_form(epoch: FeedEpoch, exchange: Scripted) -> None:
    exchange.answers["exchangeInfo"] = Answer(status=503)
    answer = may_follow().post(page("follow"), {"symbols": "BBBUSDT", "reason": "x"})
    assert answer.status_code == 200
    assert "503" in answer.content.decode()
    assert not followed(epoch)["BBBUSDT"]


def test_without_a_feed_there_is_nothing_to_ask(redis_client: redis.Redis) -> None:
    text = may_follow().post(page("follow"), {"symbols": "BBBUSDT", "reason": "x"}).content.decode()
    assert "No feed is open" in text


@pytest.mark.parametrize("name", ["follow", "stop_following"])
@pytest.mark.parametrize("method", ["get", "post"])
def test_who_may_only_look_cannot_ask(epoch: FeedEpoch, name: str, method: str) -> None:
    client = staff("view_epochinstrument")
    assert getattr(client, method)(page(name)).status_code == 403
    row = epoch.members.get(instrument__symbol="AAAUSDT")
    assert client.get(reverse("admin:market_epochinstrument_change_this", args=(row.pk,))).status_code == 403
    assert "Follow…" not in client.get(page("changelist")).content.decode()


# --- the screener's rules ---------------------------------------------------------------------------------------------


def add(client: Client, **changes: str) -> Any:
    return client.post(reverse("admin:market_screenerrule_add"), {**RULE, **changes})


def test_a_rule_is_added_under_the_name_of_who_adds_it() -> None:
    client = staff("view_screenerrule", "add_screenerrule")
    assert add(client, author="somebody else").status_code == 302
    rule = ScreenerRule.objects.get()
    assert (rule.author, rule.reason, rule.mode, rule.count, rule.quote_asset) == (
        "mara",
        "more to look at",
        "turnover",
        20,
        "USDT",
    )
    assert (rule.always, rule.never) == (["AAAUSDT", "BBBUSDT"], [])
    assert LogEntry.objects.get().object_id == str(rule.pk)


def test_a_rule_is_never_changed_or_removed() -> None:
    rule = factories.ScreenerRuleFactory.create()
    client = Client()
    client.force_login(User.objects.create_superuser("root", "", "x"))
    change = reverse("admin:market_screenerrule_change", args=(rule.pk,))
    assert client.post(change, RULE).status_code == 403
    assert client.post(reverse("admin:market_screenerrule_delete", args=(rule.pk,)), {"post": "yes"}).status_code == 403
    assert ScreenerRule.objects.get().count == rule.count


def test_who_may_only_look_cannot_add_a_rule() -> None:
    client = staff("view_screenerrule")
    assert client.get(reverse("admin:market_screenerrule_add")).status_code == 403
    assert add(client).status_code == 403
    assert not ScreenerRule.objects.exists()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"count": "0"}, "0 symbols cannot be chosen"),
        ({"count": "30000"}, "30000 symbols cannot be chosen"),
        ({"count": "-1"}, "greater than or equal to 0"),
        ({"mode": "fixed", "always": ""}, "a fixed list without a symbol would follow nothing"),
        ({"mode": "luck"}, "not one of the available choices"),
        ({"never": "AAAUSDT"}, "AAAUSDT is named as always and as never"),
        ({"always": "aaausdt"}, "Not a symbol: aaausdt"),
        ({"turnover_min": "-5"}, "A turnover cannot be negative."),
        ({"turnover_min": "many"}, "Enter a number."),
        ({"refresh_minutes": "0"}, "Between 1 and 10080 minutes."),
        ({"reason": ""}, "This field is required."),
    ],
)
def test_a_rule_that_cannot_be_followed_is_refused_in_words(changes: dict[str, str], words: str) -> None:
    answer = add(staff("view_screenerrule", "add_screenerrule"), **changes)
    assert answer.status_code == 200
    assert words in answer.content.decode()
    assert not ScreenerRule.objects.exists()


def test_a_choice_is_explained_row_by_row(admin_client: Client) -> None:
    make_everything()
    run = ScreenerRule.objects.get().runs.get()
    text = admin_client.get(reverse("admin:market_screenerrun_change", args=(run.pk,))).content.decode()
    assert "rank 6 by turnover, 5 are wanted" in text
    assert "1\u202f234\u202f568" in text
    assert "−1.00\u202f%" in text


def test_a_gap_shows_its_minutes_and_a_connection_its_past(admin_client: Client) -> None:
    road = make_everything()
    gap = road.session.epoch.gaps.get()
    text = admin_client.get(reverse("admin:market_gap_change", args=(gap.pk,))).content.decode()
    assert "2023-11-14 22:14 UTC" in text
    assert "failed: no answer" in text
    connection = road.session.epoch.connections.get()
    text = admin_client.get(reverse("admin:market_feedconnection_change", args=(connection.pk,))).content.decode()
    assert "STREAMING → CLOSED" in text
    assert "no PONG for 35 s" in text
    listed = reverse("admin:market_feedtransition_changelist")
    assert f"{listed}?connection=connection+" in text.replace("%20", "+")


def test_each_table_of_the_feed_says_what_it_holds_even_when_it_is_empty(admin_client: Client) -> None:
    for name in ("gap", "coverage", "feedtransition", "ingestlease", "klinedoubt", "screenerrun", "epochinstrument"):
        text = admin_client.get(reverse(f"admin:market_{name}_changelist")).content.decode()
        assert "cdb-table-words" in text
        assert "data-empty" in text, name
