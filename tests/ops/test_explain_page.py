"""The page of the chain: what it shows, who may see it, and what it says of a name of nothing."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import redis
from django.conf import settings
from django.contrib.auth.models import Permission, User
from django.test import Client
from django.urls import reverse

from apps.execution.models import Trade
from apps.ops.explain.asking import explain
from apps.ops.explain.parts import as_json
from apps.risk.models import RiskDecision
from tests.ops.chains import Chains, open_chains
from tests.worlds import NOW_MS

pytestmark = pytest.mark.django_db


@pytest.fixture(scope="module", autouse=True)
def static_folder(servers: dict[str, str]) -> None:
    settings.STATIC_ROOT.mkdir(parents=True, exist_ok=True)


@pytest.fixture
def chains(redis_client: redis.Redis, tmp_path: Path) -> Chains:
    return open_chains(redis_client, tmp_path)


def reader(*permissions: str) -> Client:
    user = User.objects.create_user("reader", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__in=permissions))
    client = Client()
    client.force_login(user)
    return client


def page(client: Client, name: str, status: int = 200) -> str:
    answer = client.get(reverse("explain", args=(name,)))
    assert answer.status_code == status
    return answer.content.decode()


def test_the_page_shows_the_verdict_and_every_part_top_down(chains: Chains) -> None:
    order = chains.traded()
    text = page(reader("view_riskdecision"), order.client_order_id)
    parts = re.findall(r'data-section="(\w+)"', text)
    assert parts == [
        "trades", "window", "strategy", "signal", "decision", "checks", "order", "fills", "position", "ledger", "way",
    ]  # fmt: skip
    assert 'data-ending="traded"' in text
    assert "Approved: BUY 4\u202f000 XRPUSDT" in text
    assert 'data-raw="0.5003"' in text


def test_the_exact_values_of_the_page_are_those_of_the_selector(chains: Chains) -> None:
    decision = chains.denied()
    text = page(reader("view_riskdecision"), f"decision:{decision.pk}")
    found = explain(f"decision:{decision.pk}", now_ms=NOW_MS, sources=chains.sources)
    assert found.decision is not None
    shown = set(re.findall(r'data-raw="([^"]*)"', text))
    assert {check.value for check in found.decision.checks if check.value} <= shown
    data = json.dumps(as_json(found)["decision"]["checks"][0]["note"])
    assert data.strip('"')[:20] in text


def test_a_name_of_nothing_is_told_in_the_frame(chains: Chains) -> None:
    text = page(reader("view_riskdecision"), "order:999999", 404)
    assert "there is no order &#x27;999999&#x27;" in text


def test_whoever_may_not_read_decisions_gets_no_explanation(chains: Chains) -> None:
    order = chains.traded()
    page(reader("view_order"), order.client_order_id, 403)
    assert Client().get(reverse("explain", args=("1",))).status_code == 302


def test_a_typed_name_leads_to_its_page(chains: Chains) -> None:
    client = reader("view_riskdecision")
    assert client.get(reverse("explain-ask")).status_code == 200
    answer = client.get(reverse("explain-ask"), {"name": " order:7 "})
    assert answer["Location"] == reverse("explain", args=("order:7",))


@pytest.mark.parametrize("what", ["signals_signal", "risk_riskdecision", "execution_order", "execution_trade"])
def test_the_tables_lead_to_the_page(chains: Chains, what: str) -> None:
    order = chains.traded()
    decision, trade = RiskDecision.objects.get(), Trade.objects.get()
    number = {
        "signals_signal": decision.signal_id,
        "risk_riskdecision": decision.pk,
        "execution_order": order.pk,
        "execution_trade": trade.pk,
    }[what]
    client = Client()
    client.force_login(User.objects.create_superuser("mara", "", "x"))
    text = client.get(reverse(f"admin:{what}_change", args=(number,))).content.decode()
    kind = what.rpartition("_")[2].removeprefix("risk")
    assert reverse("explain", args=(f"{kind}:{number}",)) in text


def test_the_page_holds_no_inline_script_or_style(chains: Chains) -> None:
    order = chains.traded()
    text = page(reader("view_riskdecision"), order.client_order_id)
    body = text[text.index("cdb-board") :]
    assert "style=" not in body.partition("</main>")[0]
    assert not re.search(r"<script(?![^>]*src=)[^>]*>\s*\S", body)
