"""The live page in a real browser: right at first, kept up to date, and honest when it is not."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from decimal import Decimal

import pytest
import redis
from django.contrib.auth.models import User
from django.core.management import call_command
from django.test import Client
from django.urls import reverse
from playwright.sync_api import Browser, expect

from apps.bus.streams import feed_state_key
from apps.engine import timeouts
from apps.ops.sentence import sentence
from apps.ops.snapshot import Gated, SymbolFeed
from apps.risk.models import RiskState
from apps.staff import times
from tests.admin.rows import Road, make_everything, make_road
from tests.live.conftest import WebServer, Window, sign_in, watched
from tests.ops.test_sentence import FRESH, NOW, ORDER, SILENT, changed

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def road(transactional_db: None, redis_client: redis.Redis) -> Road:
    return make_everything()


def report(client: redis.Redis, road: Road, *, age_ms: int = 100) -> None:
    """What an ingest would write that last heard of its connection `age_ms` ago."""
    now_ms = time.time_ns() // 1_000_000
    connection = {
        "name": "connection 1",
        "state": "STREAMING",
        "last_frame_ms": now_ms - age_ms,
        "last_pong_ms": None,
        "symbols": ["XRPUSDT"],
        "subscriptions": 2,
    }
    state = {"token": 10**9, "written_ms": now_ms, "connections": [connection], "last_trade_ms": now_ms - age_ms}
    client.set(feed_state_key(road.session.epoch_id), json.dumps(state), px=60_000)


def sentence_in(html: str) -> str:
    found = re.search(r'role="status" id="cdb-sentence">([^<]*)<', html)
    assert found is not None
    return found.group(1).replace("&quot;", '"').replace("&#x27;", "'")


@pytest.mark.parametrize(
    "path_name", ["live:board", "admin:index", "admin:execution_order_changelist", "admin:market_bar_changelist"]
)
@pytest.mark.parametrize("state", ["ACTIVE", "REDUCING", "HALTED"])
def test_the_first_answer_carries_the_same_sentence_as_the_command_line(
    road: Road, admin_client: Client, capsys: pytest.CaptureFixture[str], path_name: str, state: str
) -> None:
    RiskState.objects.update(trading_state=state, state_reason='odd "fills"', state_set_by="mara")
    html = admin_client.get(reverse(path_name)).content.decode()
    with pytest.raises(SystemExit):  # the ingest has not reported, so somebody must look in any case
        call_command("status", "--line")
    assert sentence_in(html) + "\n" == capsys.readouterr().out


def test_new_rows_appear_without_a_reload(window: Window, road: Road) -> None:
    window.open(reverse("live:board"))
    expect(window.page.locator("#cdb-connection")).to_have_text("● live")
    marker = window.page.evaluate("window.cdbLoadedAt = performance.timeOrigin")
    expect(window.page.locator("[data-stage=signals] .cdb-count")).to_have_text("3")
    make_road("ETHUSDT", road.session)
    expect(window.page.locator("#cdb-decisions")).to_contain_text("ETHUSDT")
    expect(window.page.locator("#cdb-positions")).to_contain_text("ETHUSDT")
    expect(window.page.locator("[data-stage=signals] .cdb-count")).to_have_text("5")
    assert window.page.evaluate("window.cdbLoadedAt") == marker
    window.check("updates")


def test_a_change_of_the_trading_state_reaches_every_page_within_two_seconds(window: Window, road: Road) -> None:
    window.open(reverse("admin:execution_order_changelist"))
    expect(window.page.locator("#cdb-connection")).to_have_text("● live")
    RiskState.objects.update(trading_state="HALTED")
    expect(window.page.locator("#cdb-sentence")).to_contain_text("HALTED", timeout=2_000)
    expect(window.page.locator("#cdb-strip")).to_have_attribute("data-severity", "critical")
    expect(window.page.locator(".cdb-strip-state svg")).to_have_attribute("aria-label", "Critical")
    window.check("halted")


def test_ages_are_counted_on_and_old_ones_are_marked(window: Window, road: Road, redis_client: redis.Redis) -> None:
    report(redis_client, road)
    window.open(reverse("live:board"))
    frame = window.page.locator("#cdb-feed tbody .cdb-age").first
    expect(frame).to_have_text(re.compile(r"^\d\.\d s$"))
    first = frame.inner_text()
    expect(frame).not_to_have_text(first)
    report(redis_client, road, age_ms=74_000)
    expect(frame).to_have_text(re.compile(r"^7\d s old$"))
    expect(frame).to_have_class(re.compile("cdb-old"))
    expect(window.page.locator("#cdb-sentence")).to_contain_text("No data for 7")
    window.check("ages")


def test_only_the_exchange_being_away_does_not_make_the_page_reconnect(
    window: Window, road: Road, redis_client: redis.Redis
) -> None:
    opened: list[str] = []
    window.page.on("websocket", lambda socket: opened.append(socket.url))
    report(redis_client, road, age_ms=300_000)
    window.open(reverse("live:board"))
    expect(window.page.locator("#cdb-sentence")).to_contain_text("No data for 5 min")
    window.page.wait_for_timeout(timeouts.BROWSER_DELAYED_SECONDS * 1000 + 2_000)
    expect(window.page.locator("#cdb-connection")).to_have_text("● live")
    assert not window.page.evaluate("document.documentElement.classList.contains('stale')")
    assert len(opened) == 1


def test_a_page_that_lost_the_server_says_so_and_comes_back(
    browser: Browser, own_server: WebServer, staff_user: User, road: Road
) -> None:
    with browser.new_context() as context:
        sign_in(context, own_server, staff_user)
        window = watched(context, own_server)
        window.open(reverse("live:board"))
        badge, sentence = window.page.locator("#cdb-connection"), window.page.locator("#cdb-sentence")
        expect(badge).to_have_text("● live")
        own_server.stop()
        expect(badge).to_have_text(re.compile(r"^○ Reconnecting… \d+ s$"))
        expect(window.page.locator("html")).to_have_class(re.compile("stale"), timeout=13_000)
        expect(sentence).to_have_text(
            re.compile(r"^This page lost the server 1\d s ago\. Reconnecting… Trading itself may be running\.$")
        )
        expect(window.page.locator("#cdb-shown-as-of")).to_contain_text("Shown as of")
        own_server.start()
        expect(badge).to_have_text("● live", timeout=20_000)
        expect(window.page.locator("html")).not_to_have_class(re.compile("stale"))
        expect(sentence).to_contain_text("The ingest has never reported")
        expect(window.page.locator("#cdb-shown-as-of")).to_be_hidden()


def test_a_login_that_ended_is_called_that_and_not_a_dead_server(window: Window, road: Road) -> None:
    window.open(reverse("live:board"))
    badge = window.page.locator("#cdb-connection")
    expect(badge).to_have_text("● live")
    window.page.evaluate(
        """async () => {
          const token = document.querySelector("#logout-form [name=csrfmiddlewaretoken]").value;
          await fetch("/admin/logout/", {method: "POST", headers: {"X-CSRFToken": token}});
        }"""
    )
    expect(badge).to_have_text("× signed out: sign in")
    assert badge.locator("a").get_attribute("href") == "/admin/login/?next=%2Flive%2F"


@pytest.fixture
def phone(browser: Browser, server: WebServer, staff_user: User) -> Iterator[Window]:
    with browser.new_context(viewport={"width": 390, "height": 844}, has_touch=True) as context:
        sign_in(context, server, staff_user)
        yield watched(context, server)


def test_a_phone_needs_no_sideways_scroll(phone: Window, road: Road) -> None:
    phone.open(reverse("live:board"))
    phone.settled()
    wide = phone.page.evaluate(
        "() => [...document.querySelectorAll('body *')].filter((e) => e.getBoundingClientRect().right > 391"
        " && !e.closest('.cdb-card')).map((e) => e.outerHTML.slice(0, 120))"
    )
    assert (phone.page.evaluate("document.documentElement.scrollWidth"), wide) == (390, [])
    expect(phone.page.locator("#cdb-sentence")).to_be_visible()


SITUATIONS = {
    "well": changed(positions=4),
    "warming up": changed(warm=False, minutes_known=9, minutes_needed=16, first_decision_ms=NOW + 360_000),
    "stale": changed(feeds=(*FRESH[:4], SymbolFeed("XRPUSDT", 74_000))),
    "no data": changed(feeds=SILENT, trouble="connection 1 is CLOSED: 1006"),
    "blocked": changed(refused=(("ABCUSDT", "Blocked!"),)),
    "all blocked": changed(feeds=SILENT, refused=(("ABCUSDT", "Blocked!"),), connections=1, blocked=("connection 1",)),
    "unproven": changed(gated=Gated(("ADAUSDT", "BTCUSDT"), "network_error", NOW + 300_000, final=False)),
    "taken over": changed(lease_taken=True, lease_age_ms=900, taken_over_ms=12_000, positions=4),
    "unknown order": changed(unknown_orders=(ORDER,)),
    "halted": changed(trading_state="HALTED", state_since_ms=NOW - 960_000, state_set_by="mara"),
    "reducing": changed(trading_state="REDUCING", state_since_ms=NOW, state_set_by="mara", state_reason="odd fills"),
}


def test_every_sentence_fits_on_one_line_of_a_usual_screen(window: Window, road: Road) -> None:
    said = {name: sentence(snapshot) for name, snapshot in SITUATIONS.items()}
    window.open(reverse("live:board"))
    window.settled()
    measure = """([line, severity]) => {
      const state = document.querySelector(".cdb-strip-state");
      state.querySelectorAll(".cdb-shape, .cdb-word").forEach((element) => element.remove());
      const shape = document.getElementById(`cdb-shape-${severity}`);
      if (shape) state.prepend(shape.content.cloneNode(true));
      const element = document.getElementById("cdb-sentence");
      element.textContent = line;
      const range = document.createRange();
      range.selectNodeContents(element);
      return new Set([...range.getClientRects()].map((box) => Math.round(box.top))).size;
    }"""
    lines = {name: window.page.evaluate(measure, [case.line, case.severity]) for name, case in said.items()}
    assert {name: count for name, count in lines.items() if count != 1} == {}


def test_numbers_of_a_column_end_at_the_same_pixel(window: Window, road: Road) -> None:
    make_road("ETHUSDT", road.session)
    type(road.position).objects.filter(pk=road.position.pk).update(quantity=Decimal("12345.67"))
    window.open(reverse("admin:portfolio_position_changelist"))
    window.settled()
    edges = window.page.evaluate(
        """() => [...document.querySelectorAll("td .cdb-num")].reduce((columns, cell) => {
          const column = cell.closest("td").cellIndex;
          const range = document.createRange();
          range.selectNodeContents(cell);
          (columns[column] ||= []).push(range.getBoundingClientRect().right);
          return columns;
        }, {})"""
    )
    assert edges
    for column, rights in edges.items():
        assert max(rights) - min(rights) <= 0.5, (column, rights)


def test_the_browser_counts_durations_in_the_servers_words(window: Window, road: Road) -> None:
    window.open(reverse("live:board"))
    cases = [0, 449, 9_999, 10_000, 119_999, 120_000, 3_600_000, 22_320_000, 172_800_000, 187_200_000, -5]
    counted = window.page.evaluate(
        "async (cases) => { const m = await import('/static/live/live.js'); return cases.map(m.duration); }", cases
    )
    assert counted == [times.duration(case) for case in cases]
