"""Writes of execution: sending orders, booking what venues report, taking back, settling what is stuck."""

from apps.execution.services.anomalies import AnomalyRefused, resolve_anomaly
from apps.execution.services.asking import sync_order
from apps.execution.services.canceling import CancelRefused, cancel_order, request_cancel
from apps.execution.services.collecting import collect_fills
from apps.execution.services.matching import match_orders, match_waiting
from apps.execution.services.reconciling import Bounds, reconcile
from apps.execution.services.settling import settle_stuck
from apps.execution.services.submitting import submit_order
from apps.execution.services.syncing import apply_report, book_fills

__all__ = [
    "AnomalyRefused",
    "Bounds",
    "CancelRefused",
    "apply_report",
    "book_fills",
    "cancel_order",
    "collect_fills",
    "match_orders",
    "match_waiting",
    "reconcile",
    "request_cancel",
    "resolve_anomaly",
    "settle_stuck",
    "submit_order",
    "sync_order",
]
