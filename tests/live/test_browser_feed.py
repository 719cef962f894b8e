"""The feed page in a real browser: drawn under the policy in both themes, kept up to date, told apart without hue."""

from __future__ import annotations

import re

import pytest
import redis
from django.urls import reverse
from playwright.sync_api import expect

from apps.market.models import Coverage, Gap
from tests.admin.rows import Road, make_everything
from tests.factories import FeedTransitionFactory
from tests.live.conftest import Window
from tests.live.feeds import connection, make_minutes, now_ms, refused, write_report

pytestmark = pytest.mark.django_db(transaction=True)

KINDS = ("checked", "provisional", "backfilled", "unproven")


@pytest.fixture
def road(transactional_db: None, redis_client: redis.Redis) -> Road:
    road = make_everything()
    make_minutes(road.session.epoch, ["XRPUSDT", "ADAUSDT"], 400, last=now_ms() // 60_000 - 1)
    write_report(redis_client, road.session.epoch_id)
    return road


def opened(window: Window) -> None:
    window.open(reverse("live:feed"))
    window.settled()
    expect(window.page.locator("#cdb-connection")).to_have_text("● live")


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_every_kind_of_minute_looks_different_even_in_grey(window: Window, road: Road, theme: str) -> None:
    window.page.add_init_script(f"localStorage.adminTheme = JSON.stringify('{theme}')")
    opened(window)
    fills = window.page.evaluate(
        """(kinds) => kinds.map((kind) => getComputedStyle(
             document.querySelector(`.cdb-ledger .cdb-kind-${kind}`)).fill)""",
        list(KINDS),
    )
    assert len(set(fills)) == len(KINDS)
    assert [re.sub(r'"', "", fill) for fill in fills[2:]] == ["url(#cdb-dots)", "url(#cdb-hatch)"]
    light = [sum(map(int, re.findall(r"\d+", fill)[:3])) / 3 for fill in fills[:2]]
    assert abs(light[0] - light[1]) > 30  # the two that have no pattern differ by lightness
    legend = window.page.locator(".cdb-legend li")
    expect(legend).to_have_count(5)
    expect(legend.nth(3)).to_contain_text("UNPROVEN")
    window.check(f"the picture, {theme}")


def test_the_page_follows_connections_gaps_and_changes_without_a_reload(
    window: Window, road: Road, redis_client: redis.Redis
) -> None:
    opened(window)
    marker = window.page.evaluate("window.cdbLoadedAt = performance.timeOrigin")
    write_report(
        redis_client, road.session.epoch_id,
        connection(1, state="BLOCKED", reason="every subscription was refused", refused=refused("XRPUSDT"),
                   blocked_until_ms=now_ms() + 60_000),
    )  # fmt: skip
    row = window.page.locator("#cdb-feed_connections tr[data-connection='connection 1']")
    expect(row).to_contain_text("BLOCKED: every subscription was refused, next attempt in")
    expect(window.page.locator("#cdb-feed_state")).to_contain_text("1 BLOCKED.")
    expect(window.page.locator("#cdb-sentence")).to_contain_text("BLOCKED: every subscription is refused")
    FeedTransitionFactory.create(epoch=road.session.epoch, connection="connection 77")
    Gap.objects.update(reason="Redis was away")
    expect(window.page.locator("#cdb-feed_transitions")).to_contain_text("connection 77")
    expect(window.page.locator("#cdb-feed_gaps")).to_contain_text("Redis was away")
    assert window.page.evaluate("window.cdbLoadedAt") == marker
    window.check("updates")


def test_a_repaired_minute_changes_its_pattern_and_an_open_table_stays_open(window: Window, road: Road) -> None:
    opened(window)
    twin = window.page.locator("#cdb-feed_coverage details")
    twin.locator("summary").click()
    expect(twin.locator("td", has_text="no_pong")).to_be_visible()
    unproven = window.page.locator(".cdb-ledger rect.cdb-kind-unproven")
    expect(unproven).to_have_count(1)
    Coverage.objects.update(status=Coverage.Status.BACKFILLED)
    expect(unproven).to_have_count(0, timeout=20_000)  # the picture is drawn anew every few seconds only
    expect(twin).to_have_attribute("open", "")
    expect(window.page.locator(".cdb-ledger")).to_have_attribute("aria-label", re.compile("12 BACKFILLED"))
    window.check("repaired")


def test_a_day_is_one_click_away_and_keeps_itself_up_to_date(window: Window, road: Road) -> None:
    opened(window)
    window.page.get_by_role("link", name="24 h", exact=True).click()
    window.page.wait_for_url("**span=feed-day")
    window.settled()
    picture = window.page.locator(".cdb-ledger")
    expect(picture).to_have_attribute("aria-label", re.compile("over 24 h since"))
    expect(window.page.locator("#cdb-connection")).to_have_text("● live")
    Coverage.objects.update(status=Coverage.Status.BACKFILLED)
    expect(picture).to_have_attribute("aria-label", re.compile("12 BACKFILLED"), timeout=20_000)
    window.check("a day")


def test_a_board_and_a_feed_page_are_fed_at_the_same_time(
    window: Window, road: Road, redis_client: redis.Redis
) -> None:
    opened(window)
    other = window.page.context.new_page()
    other.goto(window.server.url + reverse("live:board"))
    expect(other.locator("#cdb-connection")).to_have_text("● live")
    write_report(redis_client, road.session.epoch_id, connection(1, name="connection 55"))
    expect(other.locator("#cdb-feed")).to_contain_text("connection 55")
    expect(window.page.locator("#cdb-feed_connections")).to_contain_text("connection 55")
    other.close()


def test_a_wide_picture_scrolls_in_its_card_and_not_the_page(window: Window, road: Road) -> None:
    window.page.set_viewport_size({"width": 390, "height": 844})
    opened(window)
    assert window.page.evaluate("document.documentElement.scrollWidth") == 390
    expect(window.page.locator("#cdb-feed_state")).to_contain_text("connection")
