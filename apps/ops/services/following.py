"""Which symbols are followed: chosen by the rule in force at the start and on its schedule, or named by a person."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from django.db import transaction

from apps.bus.orders import SYMBOLS_MAX
from apps.market.models import EpochInstrument, FeedEpoch, ScreenerRule, ScreenerRun
from apps.market.rest import Rest, tradable
from apps.market.services import feeds, screener
from apps.market.services.feeds import FeedRefused
from apps.market.services.ranking import FIXED
from apps.portfolio.models import Position, Reservation
from apps.staff import times

SETTINGS: Final = "settings"
SYMBOL: Final = re.compile(r"[A-Z0-9]{4,20}")
REFRESH_MINUTES: Final = 60


class FollowRefused(Exception):
    """A symbol cannot be followed, or not be let go; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class Change:
    """What a person's wish changed: the symbols that came or went, and those for which it was so already."""

    changed: tuple[str, ...]
    already: tuple[str, ...]


def held_symbols(*, epoch: int) -> dict[str, str]:
    """Symbols that trading needs: an open position is watched for its exit, an open order waits for its fill."""
    orders = Reservation.objects.filter(active=True, account__session__epoch=epoch)
    positions = Position.objects.filter(status=Position.Status.OPEN, account__session__epoch=epoch)
    held = dict.fromkeys(orders.values_list("instrument__symbol", flat=True), "an open order needs its prices")
    return held | dict.fromkeys(
        positions.values_list("instrument__symbol", flat=True), "an open position needs its prices"
    )


def choose_symbols(*, epoch: FeedEpoch, rest: Rest, now_ms: int) -> ScreenerRun | None:
    """Choose anew if it is time to. Recordings and the demo keep the symbols they have."""
    rule = screener.rule_in_force()
    if epoch.kind != FeedEpoch.Kind.LIVE or rule is None:
        return None
    if not screener.due(epoch=epoch.pk, rule=rule, now_ms=now_ms):
        return None
    return screener.screen(epoch=epoch.pk, rule=rule, held=held_symbols(epoch=epoch.pk), rest=rest, now_ms=now_ms)


# --- the start of a live feed -----------------------------------------------------------------------------------------


def follow_live(
    *, feed: Mapping[str, Any], rest: Rest, symbols: Sequence[str], ranked: tuple[str, int, str] | None, now_ms: int
) -> tuple[FeedEpoch, bool, str]:
    """The live epoch with the symbols that the rule in force chooses: (epoch, whether it is new, quote asset).

    Raises `FeedRefused`, `RuleRefused` or `RestError`.
    """
    listed = rest.exchange_info()
    rule = rule_of_settings(listed=listed, symbols=symbols, ranked=ranked)
    candidates = screener.candidates(rest=rest, rule=rule, listed=listed)
    epoch, is_new = feeds.continue_or_begin(**feed, instruments=[], screened_for=rule.quote_asset)
    held = held_symbols(epoch=epoch.pk)
    run = screener.refresh(epoch=epoch.pk, rule=rule, held=held, candidates=candidates, listed=listed, now_ms=now_ms)
    if run.error and is_new:
        raise FeedRefused(f"no symbol of the exchange fits the rule {rule}: correct CDB_SCREENER or CDB_SYMBOLS")
    return epoch, is_new, rule.quote_asset


def rule_of_settings(
    *, listed: Mapping[str, Any], symbols: Sequence[str], ranked: tuple[str, int, str] | None
) -> ScreenerRule:
    """The rule in force. Changed settings make a new one; unchanged ones leave what people have made of it since."""
    mode, count, quote_asset = ranked or (FIXED, 0, "")
    always = [] if ranked else sorted(symbols)
    last = ScreenerRule.objects.filter(author=SETTINGS).order_by("-pk").first()
    in_force = screener.rule_in_force()
    same = last is not None and (last.mode, last.count, last.always) == (mode, count, always)
    if in_force and last and same and (mode == FIXED or last.quote_asset == quote_asset):
        return in_force
    return screener.add_rule(
        author=SETTINGS,
        reason="CDB_SCREENER" if ranked else "CDB_SYMBOLS",
        mode=mode,
        count=count,
        quote_asset=quote_asset or _one_quote_asset(listed, symbols),
        always=always,
        refresh_minutes=REFRESH_MINUTES,
    )


def _one_quote_asset(listed: Mapping[str, Any], symbols: Iterable[str]) -> str:
    """Of symbols that are all listed. Raises `FeedRefused`."""
    for symbol in symbols:
        if symbol not in listed:
            raise FeedRefused(f"the exchange does not list {symbol}{_instead(symbol, listed)}: correct CDB_SYMBOLS")
    quotes = sorted({str(listed[symbol].get("quoteAsset")) for symbol in symbols})
    if len(quotes) != 1:
        raise FeedRefused(f"one account has one quote currency, these symbols have {', '.join(quotes)}")
    return quotes[0]


def _instead(symbol: str, listed: Iterable[str]) -> str:
    close = difflib.get_close_matches(symbol, listed, n=1)
    return f" (is {close[0]} meant?)" if close else ""


# --- what people ask for ----------------------------------------------------------------------------------------------


@transaction.atomic
def subscribe(*, epoch: FeedEpoch, symbols: Sequence[str], rest: Rest, by: str, reason: str, now_ms: int) -> Change:
    """Follow these symbols from now on. Raises `FollowRefused`, `RuleRefused` or `RestError`; then nothing changed."""
    _refuse_ill_written(symbols)
    home, members = _lock(epoch)
    listed = rest.exchange_info()
    quotes = {row.instrument.quote_asset for row in members.values()}
    for symbol in symbols:
        _refuse_unfit(symbol, listed, quotes)
    if sum(row.followed for row in members.values()) + len(symbols) > SYMBOLS_MAX:
        raise FollowRefused(f"at most {SYMBOLS_MAX} symbols can be followed: unsubscribe some first")
    _amend_rule(home, by, reason, always=symbols)
    for symbol in symbols:
        if symbol not in members:
            members[symbol] = screener.new_member(home, symbol, listed[symbol])
    return _set(members, symbols, followed=True, why=f"{by}: {reason}", now_ms=now_ms)


@transaction.atomic
def unsubscribe(*, epoch: FeedEpoch, symbols: Sequence[str], by: str, reason: str, now_ms: int) -> Change:
    """Follow these symbols no longer. Raises `FollowRefused` or `RuleRefused`; then nothing changed."""
    _refuse_ill_written(symbols)
    home, members = _lock(epoch)
    held = held_symbols(epoch=epoch.pk)
    for symbol in symbols:
        if symbol not in members:
            raise FollowRefused(f"{symbol} was never followed here{_instead(symbol, members)}")
        if symbol in held:
            raise FollowRefused(f"{symbol} stays: {held[symbol]}")
    if not {symbol for symbol, row in members.items() if row.followed} - set(symbols):
        raise FollowRefused("that would leave nothing to follow: `make down` stops the feed")
    _amend_rule(home, by, reason, never=symbols)
    return _set(members, symbols, followed=False, why=f"{by}: {reason}", now_ms=now_ms)


def _refuse_ill_written(symbols: Iterable[str]) -> None:
    for symbol in symbols:
        if not SYMBOL.fullmatch(symbol):
            hint = f": write {symbol.upper()}" if SYMBOL.fullmatch(symbol.upper()) else ""
            raise FollowRefused(f"{symbol!r} is not a symbol such as BTCUSDT{hint}")


def _refuse_unfit(symbol: str, listed: Mapping[str, Any], quotes: set[str]) -> None:
    if symbol not in listed:
        raise FollowRefused(f"the exchange does not list {symbol}{_instead(symbol, listed)}")
    row = listed[symbol]
    if quotes and row.get("quoteAsset") not in quotes:
        raise FollowRefused(f"{symbol} is quoted in {row.get('quoteAsset')}, this feed in {', '.join(sorted(quotes))}")
    if not tradable(row):
        raise FollowRefused(f"the exchange does not let {symbol} trade now")


def _lock(epoch: FeedEpoch) -> tuple[FeedEpoch, dict[str, EpochInstrument]]:
    """The epoch, so that nobody chooses at the same time, and its members by symbol."""
    home = FeedEpoch.objects.select_for_update(no_key=True).get(pk=epoch.pk)
    return home, {row.instrument.symbol: row for row in home.members.select_related("instrument")}


def _amend_rule(
    home: FeedEpoch, by: str, reason: str, *, always: Sequence[str] = (), never: Sequence[str] = ()
) -> None:
    """A live feed's next choice must not undo the wish: it becomes part of the rule."""
    rule = screener.rule_in_force()
    if home.kind != FeedEpoch.Kind.LIVE or rule is None:
        return
    kept = {name: getattr(rule, name) for name in ("mode", "count", "quote_asset", "turnover_min", "refresh_minutes")}
    wanted = (set(rule.always) | set(always)) - set(never)
    unwanted = (set(rule.never) | set(never)) - set(always) if rule.mode != FIXED else set(rule.never) - set(always)
    if wanted == set(rule.always) and unwanted == set(rule.never):
        return
    screener.add_rule(author=by, reason=reason, always=sorted(wanted), never=sorted(unwanted), **kept)


def _set(
    members: Mapping[str, EpochInstrument], symbols: Sequence[str], *, followed: bool, why: str, now_ms: int
) -> Change:
    now = times.moment(now_ms)
    done = {symbol: screener.set_followed(members[symbol], followed=followed, why=why, now=now) for symbol in symbols}
    return Change(
        tuple(symbol for symbol, changed in done.items() if changed),
        tuple(symbol for symbol, changed in done.items() if not changed),
    )
