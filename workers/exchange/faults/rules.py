"""Faults of the server as a whole: refusals, answers, upgrades, REST, clocks, and trades that are swallowed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from workers.exchange.faults.wording import AckFault, spoilt
from workers.exchange.session import Answer, SessionRules


@dataclass
class Limited:
    """Something that holds for a number of uses, for some seconds, or until it is healed."""

    options: dict[str, Any]
    times: int | None = None
    until: float | None = None

    def over(self, now: float) -> bool:
        return self.times == 0 or (self.until is not None and now >= self.until)

    def use(self) -> None:
        """One use less."""
        if self.times is not None:
            self.times -= 1


@dataclass
class Refusal:
    """Channels whose text or symbol is named, or all if neither is."""

    channels: frozenset[str]
    symbols: frozenset[str]
    until: float | None = None

    def covers(self, name: str) -> bool:
        if not self.channels and not self.symbols:
            return True
        return name in self.channels or name.rsplit("@", 1)[-1] in self.symbols


@dataclass
class Swallow:
    """How many trades of a symbol are still to vanish, and whether /trades and /aggTrades tell of them."""

    trades: int
    told_by_rest: bool


@dataclass
class ServerRules:
    """What holds at the moment. `note` journals a fault that strikes."""

    monotonic: Callable[[], float]
    note: Callable[..., None]
    refusals: list[Refusal] = field(default_factory=list)
    acks: list[AckFault] = field(default_factory=list)
    upgrades: list[Limited] = field(default_factory=list)
    rest: list[Limited] = field(default_factory=list)
    rest_lag_ms: int = 0
    clock_skew_ms: int = 0
    swallows: dict[str, Swallow] = field(default_factory=dict)
    untold: dict[str, set[bytes]] = field(default_factory=dict)  # ids that /trades and /aggTrades keep secret

    def heal(self) -> None:
        """Behave again; what REST keeps secret stays so, or the trades would be told twice over."""
        self.refusals.clear()
        self.acks.clear()
        self.upgrades.clear()
        self.rest.clear()
        self.swallows.clear()
        self.rest_lag_ms = self.clock_skew_ms = 0

    def refuses(self, name: str) -> bool:
        """Whether a channel that exists is refused all the same."""
        now = self.monotonic()
        self.refusals = [rule for rule in self.refusals if rule.until is None or now < rule.until]
        return any(rule.covers(name) for rule in self.refusals)

    def upgrade(self) -> dict[str, Any] | None:
        """How the next upgrade is answered instead, if it is."""
        return self._used(self.upgrades, lambda _: True)

    def rest_fault(self, path: str, method: str, *, after: bool) -> dict[str, Any] | None:
        """How the next REST request of a path is answered instead, if it is; `after` it has been carried out."""

        def wanted(rule: Limited) -> bool:
            options = rule.options
            meant = options["path"] in path and options["method"] in ("", method)
            return meant and options["after"] is after

        return self._used(self.rest, wanted)

    def _used(self, rules: list[Limited], wanted: Callable[[Limited], bool]) -> dict[str, Any] | None:
        now = self.monotonic()
        rules[:] = [rule for rule in rules if not rule.over(now)]
        for rule in rules:
            if wanted(rule):
                rule.use()
                return rule.options
        return None


class FaultyAnswers(SessionRules):
    """One connection's answers to subscriptions."""

    def __init__(self, rules: ServerRules, connection: int) -> None:
        self._rules = rules
        self._connection = connection

    def refuses(self, name: str) -> bool:
        if not self._rules.refusals or not self._rules.refuses(name):
            return False
        self._rules.note("refuse", c=self._connection, channel=name)
        return True

    def answer(self, accepted: Sequence[str], refused: Sequence[str]) -> Answer:
        for place, fault in enumerate(self._rules.acks):
            if fault.connections is None or self._connection in fault.connections:
                del self._rules.acks[place]
                self._rules.note("ack", c=self._connection, mode=fault.mode)
                return spoilt(fault, accepted, refused)
        return super().answer(accepted, refused)
