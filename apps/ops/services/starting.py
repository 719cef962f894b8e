"""How trading starts, at every start of the stack and after every recovery: one function, step by step.

Until the last step nothing may be sent: the account is HALTED with the reason "starting". What a person asked for
before, and what open trips hold, holds again afterwards; otherwise paper resumes by itself. A step that fails leaves
HALTED, with a trip that names it.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import redis
from django.db import DatabaseError, InterfaceError, connection
from django.db.migrations.executor import MigrationExecutor

from apps.bus import streams
from apps.execution import services
from apps.execution.models import DatabaseIncarnation, ReconcileRun, TradingStart
from apps.market.feed_history import lease
from apps.market.models import ShardCursor
from apps.ops.services.rebuilding import rebuild_redis
from apps.ops.verify import money_checks
from apps.outbox.transactions import retry_tx
from apps.portfolio.models import Account, TradingSession
from apps.portfolio.selectors import current_session, main_account
from apps.portfolio.services import lock_account, save_account
from apps.risk.models import BreakerTrip, RiskState, TradingState, TripCause
from apps.risk.services import trips
from apps.risk.services.states import account_state, change_state, clear, relax
from apps.signals.models import SessionStrategy

log = logging.getLogger(__name__)

STARTER: Final = "start"
STARTING: Final = "starting"
LOCK: Final = (0x57A27, 1)  # the advisory lock of whoever starts trading
TOKEN_BYTES: Final = 3

CAUSES: Final[dict[str, TripCause]] = {"versions": TripCause.VERSION, "leases": TripCause.LEASE}
"""What a failed step trips. After any other one our books are not proven: nobody but the next start, or a person, lets
trading go on, while the first two are watched as long as the stack runs."""
OUTAGES: Final = (DatabaseError, InterfaceError, redis.RedisError)


class StartFailed(Exception):
    """A step of the start failed, and trading stays HALTED; one line for the operator."""


Shown = Callable[[str], AbstractContextManager[Any]]


@dataclass(frozen=True, slots=True)
class Tools:
    """What a start needs from the outside. `clock` tells wall ms, `elapsed` seconds; `shown` wraps each step."""

    reader: redis.Redis
    writer: redis.Redis
    segments: Path
    engine_hash: str
    clock: Callable[[], int]
    elapsed: Callable[[], float]
    wait: Callable[[float], None]
    shown: Shown = lambda _name: nullcontext()


@dataclass(slots=True)
class _Start:
    """One start under way."""

    tools: Tools
    row: TradingStart
    session: TradingSession | None = None
    account: Account | None = None
    step: str = ""
    details: dict[str, str] = field(default_factory=dict)


def start_trading(*, tools: Tools, cause: str = "start") -> TradingStart:
    """Check, hold, rebuild, drain, reconcile, prove, resume. Raises `StartFailed` after leaving HALTED."""
    row = TradingStart.objects.create(cause=cause[:16], started_at=_moment(tools.clock()))
    start = _Start(tools, row)
    try:
        with _only_one():
            _run(start)
    except (StartFailed, *OUTAGES) as error:
        _leave_halted(start, str(error))
        raise StartFailed(f"{start.step or 'start'}: {error}") from error
    row.ok, row.finished_at, row.reason = True, _moment(tools.clock()), _held(start)
    row.save(update_fields=["ok", "finished_at", "reason"])
    return row


def _run(start: _Start) -> None:
    steps: list[tuple[str, Callable[[_Start], str]]] = [("versions", _versions), ("leases", _leases)]
    for name, work in steps:
        _do(start, name, work)
    start.session = current_session()
    start.account = main_account(start.session) if start.session else None
    TradingStart.objects.filter(pk=start.row.pk).update(session=start.session)
    if start.session is None or start.account is None:
        _note(start, "session", 0.0, ok=True, detail="none is open, so there is nothing to trade")
        return
    for name, work in (
        ("halted", _hold), ("redis", _rebuild), ("drain", _drain), ("reconcile", _reconcile),
        ("invariants", _invariants), ("resume", _resume),
    ):  # fmt: skip
        _do(start, name, work)


def _do(start: _Start, name: str, work: Callable[[_Start], str]) -> None:
    start.step = name
    began = start.tools.elapsed()
    try:
        with start.tools.shown(name):
            detail = work(start)
    except (StartFailed, *OUTAGES) as error:
        _note(start, name, start.tools.elapsed() - began, ok=False, detail=str(error))
        raise
    _note(start, name, start.tools.elapsed() - began, ok=True, detail=detail)


def _note(start: _Start, name: str, seconds: float, *, ok: bool, detail: str) -> None:
    log.log(logging.INFO if ok else logging.ERROR, "start %d: %s, %.2f s: %s", start.row.pk, name, seconds, detail)
    start.row.steps = [*start.row.steps, {"name": name, "seconds": round(seconds, 3), "ok": ok, "detail": detail[:300]}]
    TradingStart.objects.filter(pk=start.row.pk).update(steps=start.row.steps)


# --- the steps --------------------------------------------------------------------------------------------------------
def _versions(start: _Start) -> str:
    """The schema is this program's, and the running session was begun with these engine sources."""
    executor = MigrationExecutor(connection)
    leaves = executor.loader.graph.leaf_nodes()
    missing = [f"{one.app_label}.{one.name}" for one, _ in executor.migration_plan(leaves)]
    if missing:
        raise StartFailed(f"the database lacks {len(missing)} migrations, first {missing[0]}")
    foreign = sorted(set(executor.loader.applied_migrations) - set(executor.loader.disk_migrations))
    if foreign:
        raise StartFailed(f"the database is newer than this program: it has {'.'.join(foreign[0])}")
    bindings = SessionStrategy.objects.filter(session__ended_at=None).select_related("version__strategy", "session")
    for binding in bindings:
        if binding.version.engine_hash != start.tools.engine_hash:
            raise StartFailed(f"{binding.session} was begun with other engine sources: start a new session")
    begin_incarnation("first start", only_first=True)
    return f"{len(executor.loader.applied_migrations)} migrations, {len(bindings)} strategies compared"


def _leases(_start: _Start) -> str:
    """Nobody else starts trading (that lock is held by now); who may write the stream is shown."""
    session = current_session()
    found = lease(epoch_id=session.epoch_id) if session else None
    if found is None or not found.token:
        return "no ingest has taken the stream yet"
    held = "held now" if found.held else "not held"
    return f"stream token {found.token}, {held}"


def _hold(start: _Start) -> str:
    """HALTED while the rest is done. What holds without us is kept, for `_resume`."""

    def halt() -> str:
        account = lock_account(_account(start).pk)
        state = account_state(account)
        if state.state_set_by != STARTER:
            start.details = {"state": state.trading_state, "by": state.state_set_by, "reason": state.state_reason}
        change_state(
            account=account, state=state, to_state=TradingState.HALTED, set_by=STARTER, reason=STARTING
        )  # fmt: skip
        save_account(account)
        return f"was {state.asked_state if not start.details else start.details['state']}"

    return retry_tx(halt)


def _rebuild(start: _Start) -> str:
    tools, session = start.tools, _session(start)
    done = rebuild_redis(
        epoch=session.epoch, reader=tools.reader, writer=tools.writer, segments=tools.segments
    )  # fmt: skip
    for note in done.notes:
        log.warning("start %d: %s", start.row.pk, note)
    return "; ".join([f"{done.shards} shards", f"{done.refilled} entries put back", *done.notes])


def _drain(start: _Start) -> str:
    """What waits on the streams is read, and paper orders that have matured meet their quotes, before we compare."""
    session, tools = _session(start), start.tools
    entries = sum(_drain_shard(start, cursor) for cursor in ShardCursor.objects.filter(epoch_id=session.epoch_id))
    ended = services.match_waiting(epoch=session.epoch_id, client=tools.reader, segments=tools.segments)
    return f"{entries} entries read, {ended} paper orders ended"


def _drain_shard(start: _Start, cursor: ShardCursor) -> int:
    tools = start.tools
    tail = streams.last_id(tools.reader, cursor.epoch_id, cursor.shard)
    if streams.entry_order(tail) <= streams.entry_order(cursor.seen_through):
        return 0
    from apps.signals.services import drain  # brings numba, which a start without a backlog need not carry

    with_tools = drain.Tools(tools.writer, tools.reader, tools.segments, tools.engine_hash)
    entries = 0
    try:
        while True:
            found = drain.drain_shard(epoch=cursor.epoch_id, shard=cursor.shard, tools=with_tools)
            entries += found.entries
            if found.locked or not found.more or not found.entries:
                return entries
    finally:
        drain.forget()


def _reconcile(start: _Start) -> str:
    """Everything is compared. What differs holds trading by its own trip; a run that shows nothing stops the start."""
    tools = start.tools
    run = services.reconcile(
        account_id=_account(start).pk,
        scope=ReconcileRun.Scope.ALL,
        clock=tools.clock,
        wait=tools.wait,
    )
    _hold(start)  # a clean run clears trips, and the account must stay held until everything is proven
    if run.outcome in (ReconcileRun.Outcome.EMPTY, ReconcileRun.Outcome.UNCLEAR):
        raise StartFailed(f"{run.get_outcome_display().lower()} {run.detail}".strip())
    compared = ", ".join(f"{count} {what}" for what, count in run.compared.items())
    return f"compared {compared}; {run.differences} differences open, {run.corrected} corrected"


def _invariants(start: _Start) -> str:
    session = _session(start)
    checks = [money_checks.check_money(session), money_checks.check_exposure(session)]
    for check in checks:
        if not check.ok:
            raise StartFailed(f"{check.id}: {check.row()['detail']}")
    return ", ".join(f"{check.id} compared {check.compared}" for check in checks)


def _resume(start: _Start) -> str:
    """Back to what a person asked for last and open trips hold; ACTIVE if nothing does."""

    def let_go() -> str:
        account = lock_account(_account(start).pk)
        state = account_state(account)
        before = start.details
        held = before.get("state") not in (None, TradingState.ACTIVE)
        for row in _trips_of_starts(account):
            clear(row, by=STARTER, reason=f"start {start.row.pk} went through")
        words = f"as before the start, {before['by']}: {before['reason']}" if held else f"start {start.row.pk} is done"
        relax(account=account, state=state, reason=words)
        save_account(account)
        return str(state.trading_state)

    return retry_tx(let_go)


# --- ends -------------------------------------------------------------------------------------------------------------
def _leave_halted(start: _Start, words: str) -> None:
    """Best effort: where the database is what failed, HALTED was committed before or nothing runs anyway."""
    reason = f"the start stopped at {start.step or 'its beginning'}: {words}"[:200]
    log.error("%s", reason)
    try:
        session = start.session or current_session()
        account = start.account or (main_account(session) if session else None)
        if account is not None:
            trips.trip_account(
                account_id=account.pk,
                cause=CAUSES.get(start.step, TripCause.EXPOSURE_DIFFERENCE),
                evidence={"start": str(start.row.pk), "step": start.step},
                reason=reason,
                to_state=TradingState.HALTED,
            )
        TradingStart.objects.filter(pk=start.row.pk).update(
            ok=False, reason=reason[:300], finished_at=_moment(start.tools.clock())
        )
    except (DatabaseError, InterfaceError) as error:
        log.critical("and that could not be written: %s", error)


def _trips_of_starts(account: Account) -> list[BreakerTrip]:
    return list(BreakerTrip.objects.filter(account=account, cleared_at=None, evidence__has_key="start"))


def _held(start: _Start) -> str:
    """What holds trading although the start went through, for whoever looks."""
    if start.account is None:
        return ""
    state = RiskState.objects.get(account=start.account)
    return "" if state.trading_state == TradingState.ACTIVE else f"{state.trading_state}: {state.state_reason}"[:300]


@contextmanager
def _only_one() -> Iterator[None]:
    """Two starts at once would each let go what the other one holds."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_lock(%s, %s)", LOCK)
        if not cursor.fetchone()[0]:
            raise StartFailed("another start of trading is at work")
    try:
        yield
    finally:
        with suppress(DatabaseError, InterfaceError), connection.cursor() as cursor:  # it ends with the connection
            cursor.execute("SELECT pg_advisory_unlock(%s, %s)", LOCK)


def begin_incarnation(reason: str, *, only_first: bool = False) -> str:
    """Another life of this database begins: what it gives out from now on carries the new token, which is returned."""
    if only_first and DatabaseIncarnation.objects.exists():
        return ""
    token = secrets.token_hex(TOKEN_BYTES)
    DatabaseIncarnation.objects.create(token=token, reason=reason[:200])
    return token


def _session(start: _Start) -> TradingSession:
    assert start.session is not None, "steps that need a session run only with one"
    return start.session


def _account(start: _Start) -> Account:
    assert start.account is not None, "steps that need an account run only with one"
    return start.account


def _moment(ms: int) -> datetime:
    return datetime.fromtimestamp(ms / 1000, UTC)
