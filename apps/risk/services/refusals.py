"""Changes of a trading state that were asked for and refused: kept, so that nobody tries twice unseen."""

from __future__ import annotations

import logging

from apps.alerts.services import in_a_line
from apps.portfolio.models import Account
from apps.risk.models import StateRefusal

log = logging.getLogger(__name__)


def refuse_state(
    *, account: Account, asked: str, set_by: str, reason: str, why: str, scope: str, subject: str
) -> StateRefusal:
    """Keep what was asked for (a state, or flatten), of which scope, by whom, and why it was refused."""
    log.warning("%s of %s asked for by %s is refused: %s", asked, subject or account, set_by, why)
    return StateRefusal.objects.create(
        account=account,
        asked=asked,
        scope=scope,
        subject=in_a_line(subject)[:40],
        set_by=set_by[:150],
        reason=in_a_line(reason)[:200],
        why=in_a_line(why)[:300],
    )
