"""One connection to the exchange: a thread that receives, answers for its own health, and hands frames over.

It never decodes market data. Every wait ends after a second of the clock at the latest, also inside a half frame.
Before the exchange would end a link for its age, a successor is opened beside it and takes over (`successor.py`).
"""

from __future__ import annotations

import random
import socket
import threading
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial

import websocket

from apps.engine import timeouts
from workers.ingest.backoff import Backoff
from workers.ingest.blockade import Blockade
from workers.ingest.channels import channels_of
from workers.ingest.clock import Clock
from workers.ingest.inbox import WHOLE_CONNECTION, Closed, Inbox, Opened, Refused
from workers.ingest.link import STOPPED, Ended, Link, lost, not_opened
from workers.ingest.status import Category, ConnectionStatus, State
from workers.ingest.subscriptions import Subscriptions, refused_retry_seconds
from workers.ingest.successor import Successor
from workers.ingest.tally import Tally
from workers.ingest.transitions import Closing, Transition, Transitions
from workers.ingest.transport import connect


class Connection(threading.Thread):
    """Keeps a set of symbols subscribed until `stop`, or until none is left of it."""

    def __init__(
        self,
        name: str,
        symbols: tuple[str, ...],
        url: str,
        inbox: Inbox,
        tally: Tally,
        clock: Clock,
        dice: random.Random,
        transitions: Transitions | None = None,
        rotation_seconds: float = timeouts.FEED_ROTATION_SECONDS,
        blockade: Blockade | None = None,
    ) -> None:
        super().__init__(name=name, daemon=True)
        self.status = ConnectionStatus(name, symbols, since_ms=clock.wall_ms())
        self._url = url
        self._inbox = inbox
        self._tally = tally
        self._clock = clock
        self._dice = dice
        self._transitions = transitions or Transitions(0)
        self._rotation_seconds = rotation_seconds
        self._blockade = blockade or Blockade()
        self._backoff = Backoff(dice)
        self._stopping = threading.Event()
        self._link: Link | None = None
        self._successor: Successor | None = None
        self._numbers = 0
        self._rotate_at = 0.0
        self._blocked_times = 0
        self._unanswered: frozenset[str] = frozenset()
        self._why = "ingest start"
        self._changes: deque[tuple[Sequence[str], Sequence[str]]] = deque()
        self._silent: deque[str] = deque()
        self._nudged = threading.Event()

    # --- from other threads -----------------------------------------------------------------------------------------

    def stop(self) -> None:
        """Ask the thread to end; it does within a second of the clock."""
        self._stopping.set()
        self._nudged.set()
        link, successor = self._link, self._successor
        if link is not None:
            link.stream.shutdown(socket.SHUT_RDWR)
        if successor is not None:
            successor.interrupt()

    def change(self, *, leave: Sequence[str] = (), join: Sequence[str] = ()) -> None:
        """Give up some symbols and take others, on the open socket if there is one; without symbols it ends."""
        self._changes.append((leave, join))
        self._nudged.set()

    def subscribe_again(self, symbol: str) -> None:
        """Ask once more for the channels of a symbol that is silent."""
        self._silent.append(symbol)

    # --- the thread -------------------------------------------------------------------------------------------------

    def run(self) -> None:
        category = Category.STARTED
        while not self._stopping.is_set():
            self._enter(State.CONNECTING, category, self._why)
            category = Category.RETRIED
            ended = self._session()
            if self._stopping.is_set():
                self._enter(State.CLOSED, Category.STOPPED, "stopping", ended.closing)
                return
            if self.status.symbols:
                self._pause(ended)
            if not self.status.symbols:
                self._enter(State.CLOSED, Category.EMPTIED, "no symbols are left", ended.closing)
                return

    def _session(self) -> Ended:
        """One attempt, from connecting to whatever ended it, over any number of rotations."""
        self._take_changes(None)
        self._numbers += 1
        try:
            link = self._link = self._open_link(self._numbers)
        except (OSError, websocket.WebSocketException, ValueError) as error:
            return not_opened(error)
        self.status.opens += 1
        if self.status.opens > 1:
            self._tally.reconnected()
        self.status.vitals = link.vitals
        self._inbox.put(Opened(self.name, link.number))
        self._enter(State.SUBSCRIBING, Category.CONNECTED, "")
        self._plan_rotation(link)
        ended = self._stream()
        self._blockade.ends(self.name)
        successor, self._successor = self._successor, None
        if successor is not None:
            successor.stop()
        return self._retire(ended)

    def _open_link(self, number: int) -> Link:
        """May raise OSError, WebSocketException or ValueError. Used by the successor's thread as well."""
        client, stream = connect(self._url, self._clock)
        subscriptions = Subscriptions(channels_of(self.status.symbols), self._dice, self._unanswered)
        return Link(self.name, number, client, stream, subscriptions, self._inbox, self._tally, self._clock)

    def _stream(self) -> Ended:
        ended = self._first_words()
        while ended is None and not self._stopping.is_set():
            ended = self._turn()
            if self._successor is not None:
                ended = self._relay(self._successor, ended)
            elif ended is None and self._clock.monotonic() >= self._rotate_at and self.status.state is State.STREAMING:
                self._rotate()
        return STOPPED if ended is None or self._stopping.is_set() else ended

    def _first_words(self) -> Ended | None:
        assert self._link is not None
        try:
            self._link.subscribe()
        except (OSError, websocket.WebSocketException) as error:
            return lost(error)
        return None

    def _turn(self) -> Ended | None:
        """Receive once, send what is due, and follow what that means for the state."""
        link = self._link
        assert link is not None
        try:
            ended = link.receive() or link.check(self._stopping.wait)
            if ended is None and self._successor is None:
                self._take_changes(link)
            return ended or self._follow(link)
        except (OSError, websocket.WebSocketException) as error:
            return lost(error)

    def _follow(self, link: Link) -> Ended | None:
        """Bring the state up to what the channels and the clock say; announce newly accepted symbols."""
        subscriptions, status = link.subscriptions, self.status
        status.accepted, status.refused = len(subscriptions.accepted), dict(subscriptions.refused)
        status.missing = tuple(subscriptions.missing)
        status.bytes_in = status.bytes_ended + link.stream.bytes_in
        if not status.symbols:
            return Ended(Category.EMPTIED, "no symbols are left")
        if subscriptions.blocked:
            return Ended(Category.BLOCKED, f"blocked: {next(iter(subscriptions.refused.values()), '')}")
        link.announce(self._why)
        if not subscriptions.settled:
            return None
        if status.state is State.SUBSCRIBING:
            self._blocked_times, self._unanswered = 0, frozenset()
            link.streaming_since = self._clock.monotonic()
            refused = f"{len(subscriptions.refused)} channels refused" if subscriptions.refused else ""
            self._enter(State.STREAMING, Category.SUBSCRIBED, refused)
            self._blockade.delivers(self.name)
        late = link.lateness()
        if late and status.state in (State.STREAMING, State.ROTATING):
            self._enter(State.STALE, Category.LATE, late)
        elif not late and status.state is State.STALE:
            self._enter(State.STREAMING, Category.RECOVERED, "frames again")
        return None

    def _take_changes(self, link: Link | None) -> None:
        """Make the changes that were asked for; may raise what the socket raises."""
        while self._changes:
            leave, join = self._changes.popleft()
            kept = tuple(symbol for symbol in self.status.symbols if symbol not in leave)
            self.status.symbols = (*kept, *(symbol for symbol in join if symbol not in kept))
            if link is not None:
                link.change(leave=leave, join=join)
        again = list({self._silent.popleft() for _ in range(len(self._silent))})
        if link is not None and again:
            link.subscribe_again(again)

    # --- rotation ---------------------------------------------------------------------------------------------------

    def _plan_rotation(self, link: Link) -> None:
        jitter = timeouts.FEED_ROTATION_JITTER_SECONDS / timeouts.FEED_ROTATION_SECONDS
        self._rotate_at = link.opened_at + self._rotation_seconds * self._dice.uniform(1 - jitter, 1 + jitter)

    def _rotate(self) -> None:
        """Begin to open a successor; nothing changes for the link that delivers."""
        self._enter(State.ROTATING, Category.ROTATING, "a successor is being opened")
        self._numbers += 1
        open_link = partial(self._open_link, self._numbers)
        self._successor = Successor(self.name, self._numbers, open_link, self._inbox, self._clock)
        self._successor.start()

    def _relay(self, successor: Successor, ended: Ended | None) -> Ended | None:
        """What the successor's progress, or the end of the present link, means. Returns what ends the session."""
        if ended is not None and self._stopping.is_set():
            return ended
        if successor.handover.done:
            return self._replace(successor, Ended(Category.ROTATED, "rotated"), Category.ROTATED)
        if ended is not None:
            return self._replace(successor, ended, Category.TAKEN_OVER)
        overdue = self._clock.monotonic() - successor.began_at >= timeouts.FEED_ROTATION_GIVE_UP_SECONDS
        if not (overdue or successor.handover.failed):
            return None
        if successor.handover.give_up(f"not ready after {timeouts.FEED_ROTATION_GIVE_UP_SECONDS} s"):
            self._successor = None
            successor.stop()
            retry = min(timeouts.FEED_ROTATION_RETRY_SECONDS, self._rotation_seconds)
            self._rotate_at = self._clock.monotonic() + retry
            if self.status.state is State.ROTATING:
                self._enter(State.STREAMING, Category.ROTATION_GIVEN_UP, successor.handover.failed)
        return None

    def _replace(self, successor: Successor, ended: Ended, category: Category) -> Ended | None:
        """The successor's link is the connection's from here on. Returns why the session ends if it has none."""
        self._successor = None
        link = successor.take()
        if link is None:
            return successor.ended if successor.handover.done and successor.ended else ended
        closed = self._retire(ended)
        self._link, self.status.vitals = link, link.vitals
        self.status.rotations += category is Category.ROTATED
        self._why = f"reconnect: {closed.reason}" if category is Category.TAKEN_OVER else self._why
        self._plan_rotation(link)
        link.streaming_since = self._clock.monotonic() if link.subscriptions.settled else None
        state = State.STREAMING if link.subscriptions.settled else State.SUBSCRIBING
        self._enter(state, category, closed.reason, closed.closing)
        return None

    # --- ends -------------------------------------------------------------------------------------------------------

    def _retire(self, ended: Ended) -> Ended:
        """Close the present link and note how it stood."""
        link, self._link = self._link, None
        assert link is not None
        if ended.category is Category.NO_ACK:
            self._unanswered = frozenset(link.subscriptions.missing)
        ended = link.end(ended)
        self._inbox.put(Closed(self.name, link.number))
        if link.streaming_since is not None:
            self._why = f"reconnect: {ended.reason}"  # until it streams again, this is why it had to begin anew
        status = self.status
        status.bytes_ended += link.stream.bytes_in
        status.bytes_in = status.bytes_ended
        status.last_close = _facts(ended)
        return ended

    def _pause(self, ended: Ended) -> None:
        self.status.accepted, self.status.missing = 0, ()
        if ended.category is Category.BLOCKED:
            self._inbox.put(Refused(self.name, self.status.symbols, ended.reason, WHOLE_CONNECTION))
            self._pause_blocked(ended)
            return
        seconds = max(self._backoff.next_seconds(ended.stable_seconds), ended.retry_seconds)
        closing = ended.closing or Closing(ended.closed_by, ended.code)
        self._enter(State.CLOSED, ended.category, ended.reason, closing)
        until = self._clock.monotonic() + seconds
        self._rest(lambda: until)

    def _pause_blocked(self, ended: Ended) -> None:
        """Until this connection's own pause is over and, as long as nobody is served, its turn has come."""
        now = self._clock.monotonic()
        earliest = now + refused_retry_seconds(self._blocked_times, self._dice)
        self._blocked_times += 1
        turn = self._blockade.turn(self.name, earliest, self._nudged.set)
        self.status.blocked_until_ms = self._clock.wall_ms() + round(self._clock.machine_seconds(turn - now) * 1000)
        self._enter(State.BLOCKED, Category.BLOCKED, ended.reason, ended.closing)
        self._rest(lambda: earliest if self._blockade.lifted else turn)
        self._blockade.tries(self.name)
        self.status.blocked_until_ms = None

    def _rest(self, until: Callable[[], float]) -> None:
        """Wait; changes of the symbols are taken at once, but only the last of them leaving cuts the wait short."""
        while self.status.symbols and not self._stopping.is_set():
            left = until() - self._clock.monotonic()
            if left <= 0:
                return
            self._nudged.wait(self._clock.machine_seconds(left))
            self._nudged.clear()
            self._take_changes(None)

    def _enter(self, state: State, category: Category, reason: str, closing: Closing | None = None) -> None:
        status = self.status
        before, now_ms = status.state, self._clock.wall_ms()
        status.reason, status.since_ms = reason, now_ms
        status.state = state
        status.closes += state in (State.CLOSED, State.BLOCKED)
        self._transitions.note(Transition(status.name, now_ms, before, state, category, reason, closing))


def _facts(ended: Ended) -> dict[str, object]:
    closing = ended.closing or Closing(ended.closed_by)
    return {"reason": ended.reason, "category": ended.category, **closing.facts()}
