"""Who may see what: the table of people against pages, asked over HTTP. Sockets: test_socket."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from django.contrib import admin
from django.contrib.auth.models import Permission, User
from django.test import Client
from django.urls import reverse

from apps.live.middleware import POLICY
from tests.admin.rows import make_everything

pytestmark = pytest.mark.django_db

OPEN = 200
LOGIN = 302
FORBIDDEN = 403
NOBODY_NEEDED = ("/health", "/metrics")


def visitor() -> User:
    return User.objects.create_user("visitor")


def former_staff() -> User:
    return User.objects.create_user("former", is_staff=True, is_active=False)


def bare_staff() -> User:
    return User.objects.create_user("bare", is_staff=True)


def order_reader() -> User:
    user = User.objects.create_user("reader", is_staff=True)
    user.user_permissions.add(Permission.objects.get(codename="view_order"))
    return user


def superuser() -> User:
    return User.objects.create_superuser("mara", "", "x")


def client_of(make: Callable[[], User] | None) -> Client:
    client = Client()
    if make is not None:
        client.force_login(make())
    return client


def every_admin_path() -> list[str]:
    paths = []
    for model in admin.site._registry:
        name = f"admin:{model._meta.app_label}_{model._meta.model_name}"
        row = model._default_manager.order_by("pk").last()
        assert row is not None
        paths += [reverse(f"{name}_changelist"), reverse(f"{name}_add")]
        paths += [reverse(f"{name}_{action}", args=(row.pk,)) for action in ("change", "delete", "history")]
    return [
        *paths,
        reverse("admin:index"),
        reverse("admin:search") + "?s=order&extended=1",
        reverse("live:board"),
        reverse("live:feed"),
    ]


@pytest.mark.parametrize("who", [None, visitor, former_staff], ids=["anonymous", "not staff", "not active"])
@pytest.mark.parametrize("method", ["get", "post"])
def test_who_is_not_staff_is_sent_to_the_login_from_every_page(who: Callable[[], User] | None, method: str) -> None:
    make_everything()
    client = client_of(who)
    paths = every_admin_path()
    assert len(paths) > 100
    for path in paths:
        answer = getattr(client, method)(path)
        assert answer.status_code == LOGIN, path
        assert answer.headers["Location"].startswith(reverse("admin:login")), path
        assert answer.headers["Content-Security-Policy"] == POLICY


@pytest.mark.parametrize(
    ("who", "orders", "trades", "users"),
    [
        (bare_staff, FORBIDDEN, FORBIDDEN, FORBIDDEN),
        (order_reader, OPEN, FORBIDDEN, FORBIDDEN),
        (superuser, OPEN, OPEN, OPEN),
    ],
    ids=["no permission", "may view orders", "superuser"],
)
def test_staff_sees_the_tables_it_has_permission_for(
    who: Callable[[], User], orders: int, trades: int, users: int
) -> None:
    make_everything()
    client = client_of(who)
    assert client.get(reverse("live:board")).status_code == OPEN
    found = [
        client.get(reverse(name)).status_code
        for name in (
            "admin:execution_order_changelist",
            "admin:execution_trade_changelist",
            "admin:auth_user_changelist",
        )
    ]
    assert found == [orders, trades, users]


def test_the_sidebar_and_the_palette_offer_only_what_may_be_seen() -> None:
    make_everything()
    client = client_of(order_reader)
    page = client.get(reverse("live:board")).content.decode()
    assert reverse("admin:execution_order_changelist") in page
    assert f'href="{reverse("admin:execution_trade_changelist")}" class="flex' not in page
    found = client.get(reverse("admin:search"), {"s": "xrp", "extended": "1"}).content.decode()
    assert "XRPUSDT" not in found


@pytest.mark.parametrize("path", NOBODY_NEEDED)
def test_monitoring_needs_no_login(path: str) -> None:
    assert Client().get(path).status_code in (200, 503)


def test_the_home_page_leads_to_the_live_page() -> None:
    answer = Client().get("/")
    assert (answer.status_code, answer.headers["Location"]) == (302, "/live/")


def test_a_login_gives_a_new_session_key() -> None:
    User.objects.create_user("mara", password="correct horse battery", is_staff=True)
    client = Client()
    client.get(reverse("admin:login"))
    planted = client.session
    planted["planted"] = True
    planted.save()
    before = planted.session_key
    client.post(reverse("admin:login"), {"username": "mara", "password": "correct horse battery"})
    assert client.session.session_key != before
