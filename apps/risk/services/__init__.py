"""Writes of risk: decisions, limits, the trading state and the stored exposure."""

from apps.risk.services.decisions import FeedReader, assess
from apps.risk.services.exposure import store_exposure
from apps.risk.services.limits import LimitError, change_limits, install_risk, parse_limits, refuse_limits
from apps.risk.services.states import Changed, StateRefused, change_state, set_trading_state
from apps.risk.services.sweeps import undecided_signals
from apps.risk.services.tiers import TierRefused, review_tier, set_tier

__all__ = [
    "Changed",
    "FeedReader",
    "LimitError",
    "StateRefused",
    "TierRefused",
    "assess",
    "change_limits",
    "change_state",
    "install_risk",
    "parse_limits",
    "refuse_limits",
    "review_tier",
    "set_tier",
    "set_trading_state",
    "store_exposure",
    "undecided_signals",
]
