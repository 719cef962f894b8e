"""The feed page without a browser: complete as plain HTML, exact, and readable by whoever cannot see it."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any
from xml.etree import ElementTree as ET

import pytest
import redis
from django.db import connection as database
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from apps.bus import streams
from apps.live import feed
from apps.live.sources import read_state
from apps.market.models import Coverage, FeedTransition, Gap, IngestLease, ScreenerRun
from apps.portfolio.models import TradingSession
from tests.admin.rows import Road, make_everything
from tests.factories import EpochInstrumentFactory, FeedTransitionFactory
from tests.live.feeds import DEALS, connection, make_minutes, now_ms, refused, write_report

pytestmark = pytest.mark.django_db

QUERIES_MAX = 40  # all of it: the frame around, the state sentence, and every section


@pytest.fixture
def road(redis_client: redis.Redis) -> Road:
    return make_everything()


@pytest.fixture
def ledger(road: Road) -> Road:
    make_minutes(road.session.epoch, ["XRPUSDT", "ADAUSDT"], 400, last=now_ms() // 60_000 - 1)
    return road


def page(client: Client, **query: str) -> str:
    answer = client.get(reverse("live:feed"), query)
    assert answer.status_code == 200
    return answer.content.decode()


def words(html: str) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", html))


def section(html: str, name: str) -> str:
    """From the section's element to the next card."""
    return html.partition(f'id="cdb-{name}"')[2].partition("<section")[0]


def test_the_first_answer_says_how_the_feed_is(admin_client: Client, road: Road, redis_client: redis.Redis) -> None:
    write_report(redis_client, road.session.epoch_id, connection(1), connection(2, symbols=["ADAUSDT"]))
    text = words(section(page(admin_client), "feed_state"))
    assert "1 of 1 symbols fresh, 2 of 2 connections deliver." in text
    assert "machine:4711, token 1, renewed" in text
    assert "Standby ready" in text
    assert "Waiting for Redis nothing" in text
    assert "2 waiting, 118 filled, 1 failed since the ingest started" in text
    assert "weight 1 234 since the start; at most 150 in 10 s; waited 2.5 s for its turn" in text


def test_a_connection_says_everything_that_is_known_of_it(
    admin_client: Client, road: Road, redis_client: redis.Redis
) -> None:
    write_report(
        redis_client,
        road.session.epoch_id,
        connection(1, reconnects=3, refused=refused("ABCUSDT"), missing=["spot@x@QQQUSDT"], silent=["SLWUSDT"]),
        connection(2, state="BLOCKED", reason="every subscription was refused", blocked_until_ms=now_ms() + 48_500,
                   refused=refused("AUSDT", "BUSDT"), subscriptions=0, opened_ms=None),
    )  # fmt: skip
    text = words(section(page(admin_client), "feed_connections"))
    assert text.index("connection 2") < text.index("connection 1")  # what does not work comes first
    assert re.search(r"BLOCKED: every subscription was refused, next attempt in 4[78] s", text)
    assert "STREAMING, 3 reconnects, 2 rotations" in text
    assert "30 of 30" in text
    assert "48.2 MB" in text
    assert "22 h 29 min" in text or "22 h 30 min" in text
    assert f"refused: {DEALS}ABCUSDT (“Not Subscribed successfully! Reason: Blocked!”)" in text
    assert "not answered: spot@x@QQQUSDT" in text
    assert "silent: SLWUSDT" in text


def no_lease(_road: Road) -> None:
    IngestLease.objects.all().delete()


def lost_lease(_road: Road) -> None:
    IngestLease.objects.update(renewed_at=timezone.now() - timedelta(seconds=20))


def given_lease(_road: Road) -> None:
    IngestLease.objects.update(renewed_at=None)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (no_lease, "nobody has taken it"),
        (lost_lease, r"nobody holds it ; machine:4711 last renewed it 2\d s ago"),
        (given_lease, "nobody holds it ; machine:4711 gave it back"),
    ],
)
def test_a_lease_that_nobody_holds_is_said(
    admin_client: Client, road: Road, redis_client: redis.Redis, change: Any, said: str
) -> None:
    change(road)
    write_report(redis_client, road.session.epoch_id, standby=False)
    text = words(section(page(admin_client), "feed_state"))
    assert re.search(said, text), text
    assert "none : if the ingest dies, nothing arrives until it is started anew" in text


@pytest.mark.parametrize(
    "payload", [None, b"{", b'{"written_ms": "x"}', b'{"written_ms": 1, "connections": [{"name": 1}]}']
)
def test_a_report_that_is_missing_or_odd_leaves_the_rest_of_the_page(
    admin_client: Client, ledger: Road, redis_client: redis.Redis, payload: bytes | None
) -> None:
    if payload is not None:
        redis_client.set(streams.feed_state_key(ledger.session.epoch_id), payload)
    html = page(admin_client)
    assert "The ingest has not reported within the last minute" in html
    assert "The ingest has not reported a connection." in html
    assert "Standby — not known" in words(html)
    assert "no_pong" in section(html, "feed_gaps")


def test_the_live_page_says_the_same_and_stays_short_with_many_symbols(
    admin_client: Client, road: Road, redis_client: redis.Redis
) -> None:
    symbols = [f"S{number:02}USDT" for number in range(40)]
    for symbol in symbols:
        EpochInstrumentFactory.create(epoch=road.session.epoch, instrument__symbol=symbol)
    many = [connection(number, symbols=symbols[number::10]) for number in range(9)]  # the tenth of each ten has none
    write_report(redis_client, road.session.epoch_id, *many, connection(99, state="STALE", reason="no PONG for 21 s"))
    html = section(admin_client.get(reverse("live:board")).content.decode(), "feed")
    text = words(html)
    assert "36 of 41 symbols fresh, 9 of 10 connections deliver." in text
    assert "Standby ready" in text
    assert text.index("connection 99 ▲ STALE: no PONG for 21 s") < text.index("connection 0 ")
    assert "and 2 more connections" in text
    assert "S09USDT" in text
    assert "S08USDT" not in text
    assert f'href="{reverse("live:feed")}"' in html


# --- the picture -----------------------------------------------------------------------------------------------------


def drawing(html: str) -> ET.Element:
    found = re.search(r"<svg class=\"cdb-ledger\".*?</svg>", html, re.DOTALL)
    assert found is not None
    return ET.fromstring(found.group())  # noqa: S314  (our own page)


def test_the_picture_shows_each_kind_of_minute_with_its_reason(admin_client: Client, ledger: Road) -> None:
    picture = drawing(page(admin_client))
    assert [text.text for text in picture.iter("text") if "cdb-label" in text.get("class", "")] == [
        "ADAUSDT",
        "XRPUSDT",
    ]
    titles = [rect.findtext("title") or "" for rect in picture.iter("rect") if rect.find("title") is not None]
    unproven = [title for title in titles if "UNPROVEN" in title]
    backfilled = [title for title in titles if "BACKFILLED" in title]
    assert len(unproven) in (1, 2)  # two minutes share a cell or fall into two that are one run
    assert all(re.match(r"ADAUSDT \d\d:\d\d–\d\d:\d\d UTC: 2 UNPROVEN, \d+ PROVEN \(no_pong\)", t) for t in unproven)
    assert len(backfilled) == 1
    assert "10 BACKFILLED" in backfilled[0]
    assert {path.get("class") for path in picture.iter("path")} >= {"cdb-kind-checked", "cdb-kind-provisional"}


def test_whoever_does_not_see_the_picture_reads_the_same(admin_client: Client, ledger: Road) -> None:
    html = section(page(admin_client), "feed_coverage")
    label = drawing(html).get("aria-label") or ""
    assert re.fullmatch(
        r"Coverage of 2 symbols over 6 h since \S+ \S+ UTC: 2 UNPROVEN, 10 BACKFILLED, 70\d PROVEN\.", label
    ), label
    twin = words(html.partition('class="cdb-twin"')[2])
    assert re.search(r"ADAUSDT 34\d 10 2 no_pong", twin), twin
    assert "1 symbol is PROVEN throughout." in twin


def test_a_day_is_drawn_on_request_and_nonsense_is_the_usual(admin_client: Client, ledger: Road) -> None:
    assert "over 24 h since" in page(admin_client, span="feed-day")
    for odd in ("", "year", "feed-day'--"):
        assert "over 6 h since" in page(admin_client, span=odd)


def test_the_page_asks_as_much_for_many_symbols_as_for_few(admin_client: Client, ledger: Road) -> None:
    with CaptureQueriesContext(database) as few:
        page(admin_client)
    symbols = [f"S{number}USDT" for number in range(30)]
    make_minutes(ledger.session.epoch, symbols, 20, last=now_ms() // 60_000 - 1)
    with CaptureQueriesContext(database) as many:
        page(admin_client)
    assert len(many) == len(few) <= QUERIES_MAX


def test_a_picture_of_300_symbols_stays_small(road: Road) -> None:
    symbols = [f"S{number:03}USDT" for number in range(300)]
    make_minutes(road.session.epoch, symbols, 8, last=now_ms() // 60_000 - 1)
    sections = feed.render(read_state(now_ms()), now_ms(), feed.SIX_HOURS)
    assert len(sections["feed_coverage"]) < 64 * 1024
    assert len(drawing(sections["feed_coverage"]).findall(".//text")) > 300


# --- gaps, changes, choice -------------------------------------------------------------------------------------------


def test_a_gap_says_why_how_often_it_was_tried_and_when_next(admin_client: Client, ledger: Road) -> None:
    text = words(section(page(admin_client), "feed_gaps"))
    assert "2 open, 0 filled, 0 filled in part, 0 unfillable" in text
    assert re.search(
        r"ADAUSDT (\d+ \w+ )?(\d{4} )?\d\d:\d\d UTC 2 minutes, open no_pong 3 in [1-4]?\d s failed: volume 99.5 here, "
        r"100 there",  # soon after midnight the hole lies on the day before
        text,
    )
    Gap.objects.update(status=Gap.Status.UNFILLABLE)
    Coverage.objects.update(next_attempt_at=None)
    assert "given up" in section(page(admin_client), "feed_gaps")


def test_changes_of_state_say_who_closed_and_why(admin_client: Client, road: Road) -> None:
    for number in range(30):
        FeedTransitionFactory.create(epoch=road.session.epoch, connection=f"connection {number}")
    html = section(page(admin_client), "feed_transitions")
    assert html.count("<tr>") == feed.TRANSITIONS_SHOWN + 1
    text = words(html)
    assert "connection 29 STREAMING → CLOSED no pong: no PONG for 35 s closed by us, code 1006, after 1 h 2 min" in text


def test_the_choice_is_told_with_what_came_and_went(admin_client: Client, road: Road) -> None:
    text = words(section(page(admin_client), "feed_choice"))
    assert "turnover 5 (USDT), 412 considered. Added: XRPUSDT. Removed: DOGEUSDT." in text
    assert "rank 6 by turnover, 5 are wanted" in text
    ScreenerRun.objects.update(error="ticker/24hr: HTTP 503")
    assert "▲ ticker/24hr: HTTP 503" in words(section(page(admin_client), "feed_choice"))


@pytest.mark.parametrize("ended", [True, False], ids=["no session", "a fresh session"])
def test_every_block_says_what_will_be_there_before_there_is_anything(
    admin_client: Client, road: Road, ended: bool
) -> None:
    TradingSession.objects.update(ended_at=timezone.now() if ended else None)
    for model in (FeedTransition, Coverage, Gap, ScreenerRun):
        model.objects.all().delete()
    road.session.epoch.cursors.update(closed_minute=None)
    html = page(admin_client)
    for name in feed.SECTIONS:
        if name == "feed_state" and not ended:
            continue
        assert "data-empty" in section(html, name), name


def test_hostile_words_of_the_exchange_are_shown_as_words(
    admin_client: Client, ledger: Road, redis_client: redis.Redis
) -> None:
    attack = '"><script>alert(1)</script><img src=x onerror=alert(1)>'
    write_report(redis_client, ledger.session.epoch_id, connection(1, reason=attack, refused={attack: attack}))
    FeedTransition.objects.update(reason=attack, category=attack[:40])
    Coverage.objects.update(reason=attack, detail=attack)
    Gap.objects.update(reason=attack)
    ScreenerRun.objects.update(rows=[{"symbol": attack, "why": attack}])
    html = page(admin_client)
    assert "<script>alert" not in html
    assert "<img src=x" not in html


def test_a_symbol_that_is_not_followed_is_not_counted_as_stale(
    admin_client: Client, road: Road, redis_client: redis.Redis
) -> None:
    EpochInstrumentFactory.create(epoch=road.session.epoch, instrument__symbol="GONEUSDT", followed=False)
    write_report(redis_client, road.session.epoch_id)
    assert "1 of 1 symbols fresh" in page(admin_client)
