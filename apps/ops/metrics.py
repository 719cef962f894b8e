"""`GET /metrics` of the web process: its own counters, and the numbers that matter, read at scrape time.

A counter in a process forgets at every restart and sees one process only; exposure, equity and lag must not. The other
processes expose their own metrics. Only this machine may ask, or whoever sends the token of `metrics_token`.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterable
from ipaddress import ip_address
from pathlib import Path
from typing import Final

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.views.decorators.http import require_safe
from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric

from apps.alerts.selectors import open_by_kind
from apps.engine.reconciling import Compared
from apps.ops import feed_metrics
from apps.ops.health import Health, read_health
from apps.ops.selectors import funnel
from apps.ops.selectors.state import State, read_state

TOKEN_FILE: Final = "metrics_token"  # noqa: S105  (the name of a file, not its content)


@require_safe
def view(request: HttpRequest) -> HttpResponse:
    if not allowed(request):
        return HttpResponse(
            "metrics are for this machine, or with a bearer token\n", status=403, content_type="text/plain"
        )
    now_ms = time.time_ns() // 1_000_000
    state = read_state(now_ms)
    figures = families(state, read_health(state, now_ms), funnel.of_state(state, now_ms))
    figures.append(alerts_family(open_by_kind()))
    if state.session is not None:
        figures += feed_metrics.families(state.session.epoch_id, state.report)
    body = generate_latest(REGISTRY) + generate_latest(_Collected(figures))
    return HttpResponse(body, content_type=CONTENT_TYPE_LATEST)


def allowed(request: HttpRequest) -> bool:
    """A client on this machine that no proxy speaks for, or the bearer of the token, if one is set up."""
    address = request.META.get("REMOTE_ADDR", "")
    forwarded = "HTTP_X_FORWARDED_FOR" in request.META or "HTTP_FORWARDED" in request.META
    if not forwarded and _is_loopback(address):
        return True
    token = _token(settings.SECRETS_DIR / TOKEN_FILE)
    given = request.headers.get("Authorization", "")
    return bool(token) and secrets.compare_digest(given.encode(), f"Bearer {token}".encode())


def _is_loopback(address: str) -> bool:
    try:
        return ip_address(address).is_loopback
    except ValueError:
        return False


def _token(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except OSError:
        return ""


class _Collected:
    """A registry of families that exist already."""

    def __init__(self, families: list[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        return self._families


def families(state: State, health: Health, counts: dict[str, object]) -> list[Metric]:
    """A gauge is left out while its value is unknown: a missing series is honest, a zero is not."""
    found: list[Metric] = [_gauge("cdb_healthy", "1 if every part of /health is", float(health.ok))]
    parts = GaugeMetricFamily("cdb_part_healthy", "1 if this part of /health is", labels=["part"])
    for part in health.parts:
        parts.add_metric([part.name], float(part.ok))
    found.append(parts)
    if state.session is None:
        return found
    stages = GaugeMetricFamily("cdb_funnel", "What got this far in the current session", labels=["stage"])
    for stage in funnel.STAGES:
        stages.add_metric([stage], float(str(counts[stage])))
    found.append(stages)
    snapshot = state.snapshot
    known: dict[tuple[str, str], object] = {
        ("cdb_exposure_quote", "Gross exposure, reservations included"): snapshot.exposure,
        ("cdb_exposure_limit_quote", "Limit of the gross exposure"): snapshot.exposure_limit,
        ("cdb_equity_quote", "Cash and positions at the last closes"): snapshot.equity,
        ("cdb_open_positions", "Open positions"): snapshot.positions,
        ("cdb_unknown_orders", "Orders in UNKNOWN"): len(snapshot.unknown_orders),
        ("cdb_feed_age_seconds", "Age of the oldest feed of a followed symbol"): counts["feed_age_s"],
        ("cdb_last_trade_age_seconds", "Since the ingest last received a trade"): counts["last_trade_age_s"],
        ("cdb_drain_lag_seconds", "Age of the oldest unread stream entry"): health.drain_lag_seconds,
        ("cdb_undecided_signals", "Signals without a decision"): health.undecided_signals,
        ("cdb_outbox_unpublished", "Outbox events not published yet"): health.unpublished,
    }
    if (compared := snapshot.compared) is not None:
        known |= _reconciliation(compared, snapshot.now_ms)
    found += [_gauge(name, text, float(str(value))) for (name, text), value in known.items() if value is not None]
    trading = GaugeMetricFamily("cdb_trading_state", "1 for the present trading state", labels=["state"])
    for name in ("ACTIVE", "REDUCING", "HALTED"):
        trading.add_metric([name], float(snapshot.trading_state == name))
    return [*found, trading]


def _reconciliation(compared: Compared, now_ms: int) -> dict[tuple[str, str], object]:
    ages = {
        ("cdb_reconciled_orders_age_seconds", "Since open orders were compared with the venue's"): compared.orders_ms,
        ("cdb_reconciled_full_age_seconds", "Since fills and balances were, too"): compared.everything_ms,
    }
    found: dict[tuple[str, str], object] = {
        words: None if at_ms is None else max(now_ms - at_ms, 0) / 1000 for words, at_ms in ages.items()
    }
    return {**found, ("cdb_reconcile_differences_open", "Open differences with the venue"): compared.differences}


def alerts_family(open_alerts: dict[str, int]) -> Metric:
    """One series per kind of alert, zeros included: the kinds are a closed list."""
    family = GaugeMetricFamily("cdb_alerts_open", "Alerts that nobody has acknowledged", labels=["kind"])
    for kind, count in open_alerts.items():
        family.add_metric([kind], float(count))
    return family


def _gauge(name: str, text: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, text, value=value)
