"""Comparing our books with a venue's, and making them agree: each run and each difference is a row."""

from apps.execution.services.reconciling.correcting import Bounds, DifferenceRefused, approve, dismiss
from apps.execution.services.reconciling.runs import reconcile

__all__ = ["Bounds", "DifferenceRefused", "approve", "dismiss", "reconcile"]
