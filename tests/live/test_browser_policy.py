"""Every page in a real browser, in both themes: no violation of the policy, nothing logged, no other host asked."""

from __future__ import annotations

import urllib.error
import urllib.request

import pytest
from django.contrib import admin
from django.contrib.auth.models import User
from django.urls import reverse
from playwright.sync_api import Browser, Page, expect

from apps.live.middleware import POLICY
from tests.admin.rows import Road, make_everything
from tests.live.conftest import WebServer, Window, sign_in, watched

pytestmark = pytest.mark.django_db(transaction=True)


def admin_paths() -> list[str]:
    """Index, application pages, each table's list and a record; of some also a search, an empty one and a history."""
    paths = [reverse("admin:index"), reverse("admin:password_change"), reverse("live:board"), reverse("live:feed")]
    paths += sorted({reverse("admin:app_list", args=(model._meta.app_label,)) for model in admin.site._registry})
    for number, model in enumerate(admin.site._registry):
        name = f"admin:{model._meta.app_label}_{model._meta.model_name}"
        row = model._default_manager.order_by("pk").last()
        assert row is not None, f"{model} has no row"
        listing = reverse(f"{name}_changelist")
        paths += [listing, reverse(f"{name}_change", args=(row.pk,))]
        if number % 8 == 0:  # one template each: a few models show what all of them would
            paths += [f"{listing}?q=XRPUSDT", f"{listing}?q=nothing-is-called-so"]
            paths += [reverse(f"{name}_history", args=(row.pk,))]
    return paths


@pytest.fixture
def road(transactional_db: None) -> Road:
    return make_everything()


def in_both_themes(window: Window, path: str) -> None:
    """Open a page, switch the theme on it as a person does, and check it either way."""
    window.page.add_init_script("localStorage.adminTheme ||= JSON.stringify('light')")
    window.open(path)
    window.settled()
    window.check(path)
    dark = window.page.evaluate("document.documentElement.classList.contains('dark')")
    window.page.keyboard.press("Control+e")
    window.page.wait_for_function("(was) => document.documentElement.classList.contains('dark') !== was", arg=dark)
    window.check(f"{path} in the other theme")


@pytest.mark.timeout(300)
def test_every_page_runs_under_the_policy_without_a_word_in_the_console(window: Window, road: Road) -> None:
    paths = admin_paths()
    assert len(paths) > 90
    for path in paths:
        in_both_themes(window, path)
        expect(window.page.locator("[role=status]#cdb-sentence")).to_have_count(1)


def test_pages_of_refusal_and_people_run_under_the_policy_too(window: Window, road: Road, staff_user: User) -> None:
    order = road.order
    paths = [
        reverse("admin:auth_user_add"),
        reverse("admin:auth_user_delete", args=(staff_user.pk,)),
        reverse("admin:auth_user_password_change", args=(staff_user.pk,)),
        reverse("admin:auth_group_add"),
        reverse("admin:market_screenerrule_add"),
        reverse("admin:market_epochinstrument_follow"),
        reverse("admin:market_epochinstrument_stop_following"),
    ]
    for path in paths:
        in_both_themes(window, path)
    for path, status in (
        (reverse("admin:execution_order_add"), 403),
        (reverse("admin:execution_order_delete", args=(order.pk,)), 403),
        ("/nothing/here/", 404),
    ):
        answer = window.page.goto(window.server.url + path)
        assert answer is not None
        assert (answer.status, answer.headers["content-security-policy"]) == (status, POLICY)
        assert window.page.evaluate("window.cdbViolations") == []


def test_the_login_page_runs_under_the_policy(browser: Browser, server: WebServer, staff_user: User) -> None:
    staff_user.set_password("correct horse battery")
    staff_user.save()
    with browser.new_context() as context:
        window = watched(context, server)
        window.open(reverse("live:board"))
        window.settled()
        window.check("login")
        window.page.fill("[name=username]", "mara")
        window.page.fill("[name=password]", "wrong")
        window.page.click("button[type=submit]")
        window.settled()
        window.check("refused login")
        window.page.fill("[name=username]", "mara")
        window.page.fill("[name=password]", "correct horse battery")
        window.page.click("button[type=submit]")
        window.page.wait_for_selector("#cdb-board")
        window.check("after login")


def test_the_palette_opens_types_and_goes_where_enter_says(window: Window, road: Road) -> None:
    window.open(reverse("admin:index"))
    window.settled()
    field = window.page.locator("#search-input-command")
    expect(field).not_to_be_visible()
    window.page.keyboard.press("Control+k")
    expect(field).to_be_focused()
    field.press_sequentially("xrpusdt")
    expect(window.page.locator("#command-results-list li").first).to_contain_text("XRPUSDT")
    window.page.keyboard.press("ArrowDown")
    window.page.keyboard.press("Enter")
    window.page.wait_for_url(f"**{reverse('admin:market_instrument_change', args=(road.instrument.pk,))}")
    window.check("palette")


def test_filters_theme_menu_and_sidebar_work_by_hand(window: Window, road: Road) -> None:
    window.open(reverse("admin:execution_order_changelist"))
    window.settled()
    window.page.locator("a", has_text="Filters").click()
    window.page.locator("#changelist-filter").get_by_role("link", name="Filled", exact=True).click()
    window.page.wait_for_url("**status__exact=FILLED**")
    window.settled()
    window.page.keyboard.press("Control+e")
    was_dark = window.page.evaluate("document.documentElement.classList.contains('dark')")
    window.page.keyboard.press("Control+e")
    assert window.page.evaluate("document.documentElement.classList.contains('dark')") != was_dark
    window.page.get_by_text("dock_to_right").first.click()
    expect(window.page.locator("#nav-sidebar")).not_to_be_visible()
    assert window.page.evaluate("localStorage.getItem('sidebarDesktopOpen')") == "0"
    window.check("by hand")


def test_the_description_of_a_strategy_can_be_edited_by_hand(
    browser: Browser, own_server: WebServer, staff_user: User, road: Road
) -> None:
    # A server of its own: the shared one remembers ids of content types that emptying the database has changed.
    strategy = road.signal.strategy_version.strategy
    with browser.new_context() as context:
        sign_in(context, own_server, staff_user)
        window = watched(context, own_server)
        window.open(reverse("admin:signals_strategy_change", args=(strategy.pk,)))
        window.settled()
        window.page.fill("[name=description]", "Buys what rises.")
        window.page.get_by_role("button", name="Save", exact=True).click()
        window.page.wait_for_url(f"**{reverse('admin:signals_strategy_changelist')}")
        window.settled()
        window.check("saved")
    strategy.refresh_from_db()
    assert strategy.description == "Buys what rises."


def blocked(page: Page, name: str) -> None:
    page.route(f"**/{name}", lambda route: route.abort())


@pytest.mark.parametrize("path_name", ["live:board", "admin:execution_order_changelist"])
def test_without_alpine_the_page_is_painted_all_the_same(window: Window, road: Road, path_name: str) -> None:
    blocked(window.page, "alpine.js")
    window.open(reverse(path_name))
    expect(window.page.locator("#cdb-sentence")).to_be_visible()
    expect(window.page.locator("#content")).to_be_visible()
    assert not window.page.locator("#search-input-command").is_visible()
    assert not window.page.locator("#changelist-filter").is_visible()
    link = window.page.locator("a", has_text="XRPUSDT").first
    link.click(timeout=2_000)  # nothing lies over the page


def test_without_our_code_the_live_page_is_still_right(window: Window, road: Road) -> None:
    blocked(window.page, "live.js")
    window.open(reverse("live:board"))
    expect(window.page.locator("#cdb-sentence")).to_contain_text("The ingest has never reported")
    expect(window.page.locator("#cdb-positions")).to_contain_text("XRPUSDT")
    expect(window.page.locator("#cdb-connection")).to_contain_text("as loaded")


def test_the_policy_is_on_every_answer_of_the_application(server: WebServer) -> None:
    for path in ("/live/", "/admin/login/", "/health", "/metrics", "/nothing/", "/admin/jsi18n/"):
        request = urllib.request.Request(server.url + path)
        try:
            answer = urllib.request.urlopen(request, timeout=10)
        except urllib.error.HTTPError as error:
            answer = error
        with answer:
            assert answer.headers["Content-Security-Policy"] == POLICY, path
