"""What one connection may do and what it is answered: a state machine without a socket.

`Session` is fed with texts and the time and answers with actions; whoever owns the socket carries them out.
Times are seconds of any monotonic clock.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Container, Mapping, Sequence
from typing import Final, NamedTuple

from workers.exchange.channels import Channel, parse_channel
from workers.exchange.limits import Limits

MALFORMED: Final = "msg format invalid"
POLICY_VIOLATION: Final = 1008
NORMAL_CLOSURE: Final = 1000
GOING_AWAY: Final = 1001


class Reply(NamedTuple):
    """Send this text."""

    text: str


class Later(NamedTuple):
    """Send this text after so many seconds."""

    text: str
    seconds: float


class Opened(NamedTuple):
    """Start to deliver this channel."""

    channel: Channel


class Dropped(NamedTuple):
    """Stop to deliver this channel."""

    channel: Channel


class Close(NamedTuple):
    """End the connection with this WebSocket close code and reason."""

    code: int
    reason: str


Action = Reply | Later | Opened | Dropped | Close


class Answer(NamedTuple):
    """What becomes of a subscription: the channels to deliver, and the text, or None for no answer at all."""

    accepted: Sequence[str]
    text: str | None
    code: int = 0
    after_seconds: float = 0.0
    with_id: bool = True


class SessionRules:
    """What decides about subscriptions beside the list of symbols. These rules decide nothing."""

    def refuses(self, name: str) -> bool:  # noqa: ARG002 - for those that do
        """Whether a channel that exists is refused all the same."""
        return False

    def answer(self, accepted: Sequence[str], refused: Sequence[str]) -> Answer:
        """The answer to a request whose channels are sorted into these two."""
        return Answer(accepted, acknowledgement(accepted, refused))


PLAIN_RULES: Final = SessionRules()


class Session:
    """One connection's subscriptions, deadlines and control rate."""

    def __init__(
        self,
        limits: Limits,
        symbols: Container[str],
        now: float,
        rules: SessionRules = PLAIN_RULES,
        parse: Callable[[str, Container[str]], Channel | None] = parse_channel,
    ) -> None:
        self.channels: dict[str, Channel] = {}
        self._limits = limits
        self._symbols = symbols
        self._rules = rules
        self._parse = parse
        self._opened_at = now
        self._traffic_at = now
        self._without_channels_since = now
        self._control_times: deque[float] = deque(maxlen=limits.control_messages_per_second_max)

    def on_text(self, text: str, now: float) -> list[Action]:
        """A control message arrived."""
        self._traffic_at = now
        if self._too_many_messages(now):
            return [Close(POLICY_VIOLATION, "too many control messages")]
        request = _parsed(text)
        if request is None:
            return [_reply(0, MALFORMED)]
        method, request_id = request.get("method"), _request_id(request)
        if isinstance(method, str) and method.upper() == "PING":
            return [_reply(0, "PONG")]
        channels = request.get("params")
        if not isinstance(channels, list) or not channels or not all(isinstance(name, str) for name in channels):
            return [_reply(0, MALFORMED)]
        if method == "SUBSCRIPTION":
            return self._subscribe(channels, request_id)
        if method == "UNSUBSCRIPTION":
            return self._unsubscribe(channels, request_id, now)
        return [_reply(0, MALFORMED)]

    def on_sent(self, now: float) -> None:
        """A data frame was written."""
        self._traffic_at = now

    def on_time(self, now: float) -> Close | None:
        """The close that is due, if one is."""
        limits = self._limits
        if now - self._opened_at >= limits.lifetime_seconds:
            return Close(NORMAL_CLOSURE, "connection reached its maximum age")
        if not self.channels and now - self._without_channels_since >= limits.no_subscription_seconds:
            return Close(NORMAL_CLOSURE, "no valid subscription")
        if now - self._traffic_at >= limits.idle_seconds:
            return Close(NORMAL_CLOSURE, "no traffic")
        return None

    def forget(self, symbol: str, now: float) -> list[Action]:
        """A symbol is listed no more: its channels are delivered no more, without a word."""
        names = [name for name, channel in self.channels.items() if channel.symbol == symbol]
        dropped: list[Action] = [Dropped(self.channels.pop(name)) for name in names]
        if dropped and not self.channels:
            self._without_channels_since = now
        return dropped

    def _too_many_messages(self, now: float) -> bool:
        times = self._control_times
        full = len(times) == times.maxlen and now - times[0] < self._limits.control_window_seconds
        times.append(now)
        return full

    def _subscribe(self, names: Sequence[str], request_id: int) -> list[Action]:
        """Beyond the cap a channel is acknowledged like any other, but never delivered."""
        found: dict[str, Channel] = {}
        accepted, refused = [], []
        for name in names:
            channel = None if self._rules.refuses(name) else self._parse(name, self._symbols)
            if channel is None:
                refused.append(name)
            else:
                accepted.append(name)
                found[name] = channel
        answer = self._rules.answer(accepted, refused)
        actions: list[Action] = []
        if answer.text is not None:
            reply = _reply(request_id if answer.with_id else 0, answer.text, answer.code)
            actions.append(Later(reply.text, answer.after_seconds) if answer.after_seconds else reply)
        for name in answer.accepted:
            if name not in self.channels and len(self.channels) < self._limits.subscriptions_max:
                self.channels[name] = found[name]
                actions.append(Opened(found[name]))
        return actions

    def _unsubscribe(self, names: Sequence[str], request_id: int, now: float) -> list[Action]:
        dropped: list[Action] = [Dropped(self.channels.pop(name)) for name in names if name in self.channels]
        if dropped and not self.channels:
            self._without_channels_since = now
        return [_reply(request_id, ",".join(names)), *dropped]


def _parsed(text: str) -> Mapping[str, object] | None:
    try:
        request = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return request if isinstance(request, dict) else None


def _request_id(request: Mapping[str, object]) -> int:
    value = request.get("id")
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else 0


def acknowledgement(accepted: Sequence[str], refused: Sequence[str]) -> str:
    """The texts of the real exchange, to the blank: the colon after "Reason" is full-width."""
    if not refused:
        return ",".join(accepted)
    blocked = f"Not Subscribed successfully! [{','.join(refused)}]."
    if not accepted:
        return f"{blocked}  Reason\uff1a Blocked! "
    return f"Subscribed successful! [{','.join(accepted)}]. {blocked} Reason\uff1a Blocked! "


def _reply(request_id: int, message: str, code: int = 0) -> Reply:
    answer = {"id": request_id, "code": code, "msg": message}
    return Reply(json.dumps(answer, ensure_ascii=False, separators=(",", ":")))
