"""What if: a session's day with other parameters, beside what really happened.

The simulation runs from the session's first archived trade to the end of the day, as if the session had begun with the
other parameters; what is compared is the day. Where history decided on the same trigger, the simulation is told what
history was told. Without a change it must equal history, and the first difference is told.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

from django.conf import settings

from apps.backtest.comparing import APPROVED, DENIED, REFUSED, Comparison, Decided, Outcome, compare, shared_key
from apps.backtest.figures import failures_of
from apps.backtest.history import account_on, decided_between, fill_in_words, result_between, told_until
from apps.backtest.services.judging import Judge, changed
from apps.backtest.simulating import GoOn, Simulated, simulate, terms_of_spec
from apps.backtest.slicing import whole_minutes
from apps.backtest.values import BacktestRefused
from apps.engine.backtest import Setup
from apps.engine.desk.account import DeskDecision, DeskEnd, PaperSettings
from apps.engine.desk.book import DAY_MS
from apps.engine.instrument_specs import InstrumentSpec
from apps.engine.plans import Stage
from apps.engine.portfolio import Fill
from apps.engine.results import Result
from apps.engine.shard import StrategySpec
from apps.engine.tapes import Tape
from apps.market.archive.keeping import key_of
from apps.market.archive.layout import TRADES, ArchiveError, Folder, day_start_ms, read_meta
from apps.market.archive.reading import read_tapes
from apps.portfolio.models import Account
from apps.risk.selectors import current_limits, limits_of
from apps.signals.models import SessionStrategy, StrategyVersion
from apps.signals.services.schedules import changes_of
from apps.staff.numbers import plain


@dataclass(frozen=True, slots=True)
class WhatIf:
    """A day that was and one that would have been."""

    session_id: int
    day: date
    changes: Mapping[str, str]
    comparison: Comparison
    was: Outcome
    would: Outcome
    trades: int
    decision_hash: str
    failed: tuple[str, ...] = ()  # strategies that raised in the simulation, in words; the others went on

    @property
    def difference(self) -> Decimal:
        """In the net result of closed round trips, quote currency."""
        return self.would.net - self.was.net

    def as_json(self) -> dict[str, Any]:
        return {
            "session": self.session_id,
            "day": self.day.isoformat(),
            "set": dict(self.changes),
            "identical": self.comparison.identical,
            "compared": self.comparison.compared,
            "first_difference": self.comparison.first_difference or None,
            **self.comparison.as_json(),
            "was": self.was.as_json(),
            "would": self.would.as_json(),
            "difference": plain(self.difference),
            "trades": self.trades,
            "decision_hash": self.decision_hash,
            "failed": list(self.failed),
        }


def what_if(
    *,
    day: date,
    changes: Mapping[str, str],
    session_id: int | None = None,
    root: Path | None = None,
    go_on: GoOn | None = None,
) -> WhatIf | None:
    """The day again, with these parameters. None if `go_on` ended it. Raises `BacktestRefused`.

    `root`: the archive, if not that of the settings.
    """
    first_ms = day_start_ms(day.isoformat())
    end_ms = first_ms + DAY_MS
    account = account_on(first_ms, end_ms, session_id)
    if account is None:
        which = f"no session decided anything on {day}" if session_id is None else f"there is no session {session_id}"
        raise BacktestRefused(f"{which}: `manage.py whatif --session N` names one, the admin lists them")
    folder = Folder(root or settings.ARCHIVE_DIR, key_of(account.session.epoch))
    try:
        done = simulated_day(account, folder, changes, day, go_on)
    except (ArchiveError, OSError) as error:
        raise BacktestRefused(str(error)) from error
    if done is None:
        return None
    was = decided_between(account, first_ms, end_ms)
    would = [row for row in decided_of(done.result) if first_ms <= row.ts_event < end_ms]
    closed = [row for row in done.result.round_trips if first_ms <= row.closed_ts_event < end_ms]
    return WhatIf(
        session_id=account.session_id,
        day=day,
        changes=changes,
        comparison=compare(was, would),
        was=result_between(account, first_ms, end_ms),
        would=Outcome.of((trip.net, trip.fees) for trip in closed),
        trades=done.result.trades,
        decision_hash=done.result.decision_hash,
        failed=tuple(failures_of(done.result)),
    )


# --- the simulation ---------------------------------------------------------------------------------------------------


def simulated_day(
    account: Account, folder: Folder, changes: Mapping[str, str], day: date, go_on: GoOn | None = None
) -> Simulated | None:
    """The account's session through the end of the day, with these changes; None if `go_on` ended it."""
    end_ms = day_start_ms(day.isoformat()) + DAY_MS
    members = account.session.epoch.members.values_list("instrument__symbol", flat=True)
    specs = {symbol: spec for symbol, spec in read_meta(folder).specs().items() if symbol in set(members)}
    days = [name for name in folder.days(TRADES) if name <= day.isoformat()]
    if not days or days[-1] != day.isoformat():
        held = f"it has {days[0]} to {days[-1]}" if days else "it has no day before"
        raise BacktestRefused(
            f"the archive {folder.key} has no trades of {day} ({held}): `manage.py archive status` says what it has"
        )
    setup = setup_of_session(account, specs, changes)
    parts = read_tapes(folder, symbols=sorted(specs), from_ms=day_start_ms(days[0]), to_ms=end_ms, late=False)
    return simulate(setup, whole_minutes(_known(parts)), go_on=go_on, told=told_until(account, end_ms))


def _known(parts: Iterator[dict[str, Tape]]) -> Iterator[dict[str, Tape]]:
    """Errors of a file that is read late are refusals too."""
    try:
        yield from parts
    except ArchiveError as error:
        raise BacktestRefused(str(error)) from error


def setup_of_session(account: Account, specs: Mapping[str, InstrumentSpec], changes: Mapping[str, str]) -> Setup:
    """The session as it traded, its strategies with these changes. Raises `BacktestRefused`."""
    if not specs:
        raise BacktestRefused("the archive knows none of the session's symbols")
    session = account.session
    paper = session.config["paper"]
    return Setup(
        capital=account.initial,
        currency=account.currency,
        terms={symbol: terms_of_spec(spec) for symbol, spec in sorted(specs.items())},
        limits=limits_of(current_limits(account.pk)),
        strategies=tuple(_strategies(account, changes)),
        paper=PaperSettings(int(paper["latency_ms"]), Decimal(paper["base_bps"]), Decimal(paper["impact_bps"])),
        session=session.pk,
        book=account.book,
    )


def _strategies(account: Account, changes: Mapping[str, str]) -> list[StrategySpec]:
    """What the session ran, with its changes of version at their minutes, every stage of it with `changes`."""
    bindings = SessionStrategy.objects.filter(session=account.session_id, book=account.book)
    scheduled = changes_of([account.session_id])
    found = []
    for binding in bindings.select_related("version__strategy").order_by("id"):
        name, version = binding.version.strategy.name, binding.version
        stages = tuple(
            Stage(row.from_minute, row.version_id, changed_version(row.version, name, changes), row.enabled)
            for row in scheduled
            if row.base_id == version.pk
        )
        found.append(StrategySpec(version.pk, name, changed_version(version, name, changes), stages))
    if not found:
        raise BacktestRefused(f"session {account.session_id} ran no strategy in its book {account.book}")
    return found


def changed_version(version: StrategyVersion, name: str, changes: Mapping[str, str]) -> Mapping[str, Any]:
    """A version's parameters with these changes, checked."""
    return changed(Judge(name, version.pk, version.parameters), changes).parameters


# --- what it decided --------------------------------------------------------------------------------------------------


def decided_of(result: Result) -> list[Decided]:
    """A simulation's decisions and refused signals, in the words of history."""
    kinds = {signal.key: signal.kind for signal in result.signals}
    ends = {end.order.trigger_key: end for end in result.ends}
    found = [_decided(row, kinds[row.trigger_key], ends.get(row.trigger_key)) for row in result.decisions]
    return found + [
        Decided(
            shared_key(refusal.signal.key), refusal.signal.ts_event, refusal.signal.symbol, refusal.signal.kind,
            REFUSED, (refusal.reason,),
        )
        for refusal in result.refusals
    ]  # fmt: skip


def _decided(row: DeskDecision, kind: str, end: DeskEnd | None) -> Decided:
    approved = row.ruled.approved
    intent = row.ruled.proposal.intent
    return Decided(
        key=shared_key(row.trigger_key),
        ts_event=row.trigger.ts_event,
        symbol=row.trigger.symbol,
        kind=kind,
        verdict=APPROVED if approved else DENIED,
        reasons=tuple(reason.value for reason in row.ruled.assessment.reasons),
        quantity=intent.quantity if approved else None,
        limit_price=intent.limit_price if approved else None,
        outcome=_outcome(end) if approved else "",
    )


def _outcome(end: DeskEnd | None) -> str:
    if end is None:
        return "submitted"
    fill = end.outcome
    return fill_in_words(fill.quantity, fill.price, fill.fee) if isinstance(fill, Fill) else "expired"
