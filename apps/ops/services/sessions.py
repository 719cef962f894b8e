"""Preparing a trading session: instruments, feed epoch, account, strategy, limits. What fits is continued."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

from django.db import transaction
from django.utils import timezone

from apps.engine.tiers import THRESHOLDS
from apps.execution.selectors import PAPER as PAPER_VENUE
from apps.execution.selectors import venue_kind
from apps.execution.services.listening import exchange_terms
from apps.market.models import FeedEpoch
from apps.market.rest import Rest
from apps.market.services import feeds
from apps.ops.services import following
from apps.ops.services.exchange import exchange_rest
from apps.ops.services.session_ends import end_all
from apps.ops.stack.runtime import NAME_MAX, block_fault
from apps.portfolio.models import TradingSession
from apps.portfolio.services import open_account
from apps.risk.services import install_risk
from apps.signals.models import SessionStrategy
from apps.signals.services.versions import SYSTEM, checked, version_with
from apps.staff import times

INITIAL_CASH: Final = Decimal(100_000)

FIRST_TIERS: Final = {"live": "LOW_TRUST", "demo": "NORMAL", "replay": "NORMAL"}
"""What a session begins in if nobody says: on the real market as one that has shown nothing yet."""
MOMENTUM: Final[dict[str, Any]] = {
    "lookback_minutes": 15,
    "turnover_min": 0,
    "cooldown_minutes": 15,
    "stop_loss_pct": "2.0",
    "take_profit_pct": "6.0",
    "max_holding_minutes": 240,
}
PAPER: Final[dict[str, Any]] = {"latency_ms": 150, "base_bps": "1", "impact_bps": "10"}


class SessionRefused(Exception):
    """The session cannot start as asked; one line for the operator."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the operator asked for."""

    mode: str  # demo, replay or live
    tier: str
    rest_url: str
    shard_count: int
    engine_hash: str
    live_symbols: tuple[str, ...]
    seed: int
    live_screener: tuple[str, int, str] | None = None  # mode, how many, quote asset; instead of the symbols
    replay_files: tuple[Path, ...] = ()
    new_session: bool = False
    name: str = ""  # of a new session; else it is named after its time and market
    venue: str | None = None  # paper or exchange; None: as the running session has it, else paper
    ws_url: str = ""  # where the exchange's private stream is, if that is the venue
    days: int | None = None  # a block of so many days of wall time; None: until somebody stops it


@dataclass(frozen=True, slots=True)
class Prepared:
    session: TradingSession
    epoch_is_new: bool
    session_is_new: bool


def fingerprint(files: tuple[Path, ...]) -> str:
    """A recording is what its bytes are; the same files continue, others begin anew. Raises OSError."""
    digest = hashlib.sha256()
    for path in files:
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()[:16]


def source_of(wanted: Wanted) -> tuple[str, str, str]:
    """(kind, source, description) of the feed."""
    if wanted.mode == "replay":
        names = ", ".join(path.name for path in wanted.replay_files)
        return FeedEpoch.Kind.REPLAY, f"replay:{fingerprint(wanted.replay_files)}", names
    if wanted.mode == "demo":
        return FeedEpoch.Kind.SYNTHETIC, f"synthetic:{wanted.seed}", f"synthetic market, seed {wanted.seed}"
    return FeedEpoch.Kind.LIVE, "live", wanted.rest_url


@transaction.atomic
def end_unfit(*, tier: str, new_session: bool) -> bool:
    """End the running session, and its feed epoch with it, if another one is wanted. True if one was ended.

    A session and its epoch begin together, so that everything it decides can be derived from its stream: an epoch
    whose session has ended is not gone on with. Called before a replay starts too: only the epoch that goes on says
    from where.
    """
    now = timezone.now()
    running = TradingSession.objects.filter(ended_at__isnull=True).order_by("-id")
    newest = running.first()
    if newest is None:
        return bool(FeedEpoch.objects.filter(ended_at__isnull=True, sessions__isnull=False).update(ended_at=now))
    if newest.tier == tier and not new_session:
        return False
    end_all(sessions=running, reason="another session was asked for", now=now)
    FeedEpoch.objects.filter(ended_at__isnull=True).update(ended_at=now)
    return True


@transaction.atomic
def prepare(wanted: Wanted, rest: Rest | None = None) -> Prepared:
    """Make or continue epoch and session. `rest`: the exchange, if not as everybody asks it.

    Raises `SessionRefused`, `FeedRefused`, `RuleRefused` or `RestError`.
    """
    end_unfit(tier=wanted.tier, new_session=wanted.new_session)
    epoch, epoch_is_new, quote_asset = _follow(wanted, rest or exchange_rest(wanted.rest_url))
    running = TradingSession.objects.filter(ended_at__isnull=True, epoch=epoch).order_by("-id").first()
    if running:
        _refuse_other_terms(running, wanted)
        return Prepared(running, epoch_is_new, session_is_new=False)
    others = TradingSession.objects.filter(ended_at__isnull=True)
    end_all(sessions=others, reason="a feed of its own was asked for", now=timezone.now())
    return Prepared(_begin(wanted, epoch, quote_asset), epoch_is_new, session_is_new=True)


def _follow(wanted: Wanted, exchange: Rest) -> tuple[FeedEpoch, bool, str]:
    """(epoch, whether it is new, quote asset). Recordings and the demo keep their symbols, live ones are chosen."""
    kind, source, description = source_of(wanted)
    feed: dict[str, Any] = {
        "kind": kind,
        "source": source,
        "description": description,
        "shard_count": wanted.shard_count,
    }
    if wanted.mode == "live":
        return following.follow_live(
            feed=feed,
            rest=exchange,
            symbols=wanted.live_symbols,
            ranked=wanted.live_screener,
            now_ms=times.to_ms(timezone.now()),
        )
    listed = exchange.exchange_info()
    instruments = feeds.store_instruments(source=source, rows=listed, symbols=sorted(listed))
    epoch, is_new = feeds.continue_or_begin(**feed, instruments=instruments)
    return epoch, is_new, instruments[0].quote_asset


def _refuse_other_terms(session: TradingSession, wanted: Wanted) -> None:
    if (wanted.name and wanted.name != session.name) or wanted.days is not None:
        raise SessionRefused(f"{session.name} runs already: a name and days are those of a new one (--new-session)")
    if wanted.venue not in (None, venue_kind(session)):
        raise SessionRefused(f"{session.name} trades at {venue_kind(session)}: another venue is a new one's")
    for binding in SessionStrategy.objects.filter(session=session).select_related("version__strategy"):
        if binding.version.engine_hash != wanted.engine_hash:
            raise SessionRefused(
                f"{session.name} began with other engine sources than these: start a new session (NEW_SESSION=1)"
            )


def _begin(wanted: Wanted, epoch: FeedEpoch, quote_asset: str) -> TradingSession:
    # A wrong parameter stops the start, not the first trade.
    parameters = checked("momentum", {**MOMENTUM, **THRESHOLDS[wanted.tier]})
    if fault := block_fault(wanted.name, wanted.days):
        raise SessionRefused(fault)
    try:
        venue = {} if wanted.venue in (None, PAPER_VENUE) else {"venue": exchange_terms(wanted.rest_url, wanted.ws_url)}
    except ValueError as refused:
        raise SessionRefused(str(refused)) from refused
    now = timezone.now()
    session = TradingSession.objects.create(
        name=wanted.name or f"Paper {now:%d %b %H:%M} UTC, {epoch.description}"[:NAME_MAX],
        mode=TradingSession.Mode.PAPER,
        epoch=epoch,
        tier=wanted.tier,
        quote_asset=quote_asset,
        config={
            "paper": PAPER,
            **venue,
            "strategy": "momentum",
            "parameters": parameters,
            "initial_cash": str(INITIAL_CASH),
            "days": wanted.days,
        },
        seed=wanted.seed,
        ends_at=None if wanted.days is None else now + timedelta(days=wanted.days),
    )
    account = open_account(session=session, currency=quote_asset, initial=INITIAL_CASH, now=now)
    install_risk(account=account, set_by="system", reason="defaults of a new session")
    version = version_with(
        name="momentum",
        parameters=parameters,
        author=SYSTEM,
        reason=f"a session begins in tier {wanted.tier}",
        engine_hash=wanted.engine_hash,
    )
    SessionStrategy.objects.create(session=session, version=version)
    return session
