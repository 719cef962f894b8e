"""Writes of execution: sending orders, booking what venues report, settling what is stuck."""

from apps.execution.services.matching import match_orders
from apps.execution.services.settling import settle_stuck
from apps.execution.services.submitting import submit_order
from apps.execution.services.syncing import apply_report, sync_order

__all__ = ["apply_report", "match_orders", "settle_stuck", "submit_order", "sync_order"]
