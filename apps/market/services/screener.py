"""Choosing the symbols to follow, on a schedule and while the feed runs, with the choice explained.

Only membership changes: a symbol that comes gets a row of its epoch, one that goes is not followed any more. The ingest
reads the wish a second later, and the drain meets the new symbol on the stream.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, Final

from django.db import transaction

from apps.bus.orders import SYMBOLS_MAX
from apps.bus.streams import shard_of
from apps.market import rest as exchange
from apps.market.models import EpochInstrument, FeedEpoch, Instrument, ScreenerRule, ScreenerRun
from apps.market.rest import Rest, RestError
from apps.market.services.ranking import FIXED, Candidate, Choice, Criteria, choose
from apps.staff import times

log = logging.getLogger(__name__)

RETRY: Final = timedelta(minutes=5)
RUNS_KEPT: Final = 1_000
SCALES: Final = ("price_decimals", "quantity_decimals")


class RuleRefused(Exception):
    """A rule that cannot be followed; the message says why and what to do."""


def rule_in_force() -> ScreenerRule | None:
    return ScreenerRule.objects.order_by("-pk").first()


def add_rule(*, author: str, reason: str, **fields: Any) -> ScreenerRule:
    """A new rule, in force from the next choice on. Raises `RuleRefused`."""
    rule = ScreenerRule(author=author[:150], reason=reason[:200], **fields)
    check(criteria_of(rule))
    rule.save(force_insert=True)
    return rule


def criteria_of(rule: ScreenerRule) -> Criteria:
    return Criteria(
        rule.mode, rule.count, rule.quote_asset, rule.turnover_min, frozenset(rule.always), frozenset(rule.never)
    )


def check(criteria: Criteria) -> None:
    """Raises `RuleRefused` for a rule that would follow nothing, too much, or what it forbids itself."""
    if both := sorted(criteria.always & criteria.never):
        raise RuleRefused(f"{both[0]} is named as always and as never to be followed: name it once")
    if criteria.mode == FIXED and not criteria.always:
        raise RuleRefused("a fixed list without a symbol would follow nothing: name at least one")
    if criteria.mode != FIXED and not 1 <= criteria.count <= SYMBOLS_MAX:
        raise RuleRefused(f"{criteria.count} symbols cannot be chosen: ask for 1 to {SYMBOLS_MAX}")
    if len(criteria.always) > SYMBOLS_MAX:
        raise RuleRefused(f"{len(criteria.always)} symbols are more than {SYMBOLS_MAX}: name fewer")


def due(*, epoch: int, rule: ScreenerRule, now_ms: int) -> bool:
    """Whether it is time to choose again: the rule is new, its pause is over, or the last try failed a while ago."""
    last = ScreenerRun.objects.filter(epoch_id=epoch).order_by("-pk").first()
    if last is None or last.rule_id != rule.pk:
        return True
    pause = timedelta(minutes=rule.refresh_minutes)
    return times.moment(now_ms) >= last.at + (min(pause, RETRY) if last.error else pause)


def screen(*, epoch: int, rule: ScreenerRule, held: Mapping[str, str], rest: Rest, now_ms: int) -> ScreenerRun:
    """Ask the exchange and choose. What it does not tell is the run's error, and who is followed stays."""
    try:
        listed = rest.exchange_info()
        offered = candidates(rest=rest, rule=rule, listed=listed)
    except RestError as error:
        return _note(epoch, rule, now_ms, error=str(error))
    return refresh(epoch=epoch, rule=rule, held=held, candidates=offered, listed=listed, now_ms=now_ms)


def candidates(*, rest: Rest, rule: ScreenerRule, listed: Mapping[str, dict[str, Any]]) -> list[Candidate]:
    """What there is to choose from; the figures are asked for if the rule needs them. Raises `RestError`."""
    tickers = {} if rule.mode == FIXED else rest.tickers()
    found = []
    for symbol, row in listed.items():
        day = tickers.get(symbol)
        figures = (day.turnover, day.movement) if day else (None, None)
        found.append(Candidate(symbol, str(row.get("quoteAsset", "")), _tradable(row), *figures))
    return found


def _tradable(row: dict[str, Any]) -> bool:
    """A row without what we need to know is not traded; it must not keep the others from being chosen."""
    try:
        return bool(exchange.filters(row)["tradable"])
    except RestError:
        return False


@transaction.atomic
def refresh(
    *,
    epoch: int,
    rule: ScreenerRule,
    held: Mapping[str, str],
    candidates: Iterable[Candidate],
    listed: Mapping[str, dict[str, Any]],
    now_ms: int,
) -> ScreenerRun:
    """Choose, and let the epoch follow the choice. What is `held` (symbol -> what needs its prices) stays followed."""
    home = FeedEpoch.objects.select_for_update(no_key=True).get(pk=epoch)  # one choice at a time
    members = {row.instrument.symbol: row for row in home.members.select_related("instrument")}
    followed = {symbol for symbol, row in members.items() if row.followed}
    criteria = criteria_of(rule)
    fitting = [_with_bar(row, members.get(row.symbol), listed) for row in candidates]
    choice = choose(criteria, fitting, followed=followed, held={one: held[one] for one in held if one in members})
    rows = choice.rows(criteria, followed)
    if error := _senseless(choice):
        return _note(epoch, rule, now_ms, choice.considered, rows, error=error)
    for verdict in choice.verdicts:
        member = members.get(verdict.symbol)
        if member is None and verdict.follow:
            member = new_member(home, verdict.symbol, listed[verdict.symbol])
        if member is not None:
            set_followed(member, followed=verdict.follow, why=verdict.why, now=times.moment(now_ms))
    added, removed = sorted(choice.symbols - followed), sorted(followed - choice.symbols)
    return _note(epoch, rule, now_ms, choice.considered, rows, added=added, removed=removed)


def _senseless(choice: Choice) -> str:
    if not choice.symbols:
        return "no symbol fits the rule: who was followed stays"
    if len(choice.symbols) > SYMBOLS_MAX:
        return f"{len(choice.symbols)} symbols fit the rule, at most {SYMBOLS_MAX} can be followed: who was stays"
    return ""


def _with_bar(row: Candidate, member: EpochInstrument | None, listed: Mapping[str, dict[str, Any]]) -> Candidate:
    """An epoch's prices are whole ticks of one size; another size begins with another epoch."""
    if member is None or not row.tradable:
        return row
    fields = exchange.filters(listed[row.symbol])
    if all(getattr(member.instrument, name) == fields[name] for name in SCALES):
        return row
    return replace(row, barred="its decimals have changed: a new session takes them over")


def new_member(home: FeedEpoch, symbol: str, row: dict[str, Any]) -> EpochInstrument:
    """A symbol that an epoch knows from now on, not followed yet. `row` is of exchangeInfo. Raises `RestError`."""
    fields = exchange.filters(row)
    instrument, _ = Instrument.objects.update_or_create(source=home.source, symbol=symbol, defaults=fields)
    return EpochInstrument.objects.create(
        epoch=home, instrument=instrument, shard=shard_of(symbol, home.shard_count), followed=False
    )


def set_followed(member: EpochInstrument, *, followed: bool, why: str, now: datetime) -> bool:
    """Follow a symbol or stop; `changed_at` moves only if that is a change. True if it is."""
    changed = member.followed != followed
    if changed or member.why != why[:200]:
        fields: dict[str, Any] = {"followed": followed, "why": why[:200]}
        if changed:
            fields["changed_at"] = now
        EpochInstrument.objects.filter(pk=member.pk).update(**fields)
    return changed


def _note(
    epoch: int,
    rule: ScreenerRule,
    now_ms: int,
    considered: int = 0,
    rows: Collection[dict[str, Any]] = (),
    **fields: Any,
) -> ScreenerRun:
    """Keep the choice with its time; the oldest choices of the epoch are dropped."""
    if fields.get("error"):
        fields["error"] = fields["error"][:200]
        log.warning("the symbols were not chosen anew: %s", fields["error"])
    run = ScreenerRun.objects.create(rule=rule, epoch_id=epoch, considered=considered, rows=list(rows), **fields)
    run.at = times.moment(now_ms)
    run.save(update_fields=["at"])
    old = ScreenerRun.objects.filter(epoch_id=epoch).order_by("-pk").values("pk")[RUNS_KEPT:]
    ScreenerRun.objects.filter(pk__in=list(old.values_list("pk", flat=True))).delete()
    return run
