"""Where commands come in, from HTTP or from a script, and become faults."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from workers.exchange.connection import Connection
from workers.exchange.faults.commands import CONNECTION_FAULTS, FRAME_FAULTS, BadCommandError, Command
from workers.exchange.faults.connection import ConnectionFaults, Outgoing
from workers.exchange.faults.rules import Limited, Refusal, ServerRules, Swallow
from workers.exchange.faults.wording import AckFault
from workers.exchange.hub import Hub
from workers.exchange.market import UnknownSymbolError
from workers.exchange.private.office import PRIVATE_COMMANDS, Office
from workers.exchange.rounds import Parcel
from workers.exchange.session import Close

_NO_CLOSE_FRAME = 1006


class FaultDesk:
    """Applies commands to a hub and its rules."""

    def __init__(
        self, hub: Hub, rules: ServerRules, dice: random.Random, monotonic: Callable[[], float], office: Office
    ) -> None:
        self._hub = hub
        self._office = office
        self._rules = rules
        self._dice = dice
        self._monotonic = monotonic

    def apply(self, command: Command) -> dict[str, Any]:
        """Carry a command out; raises BadCommandError for symbols that do not exist. The answer names connections."""
        found: list[Connection] = []
        if command.do in CONNECTION_FAULTS or command.do in FRAME_FAULTS:
            found = self._chosen(command)
        self._hub.journal.event(
            "command",
            do=command.do,
            c=[connection.number for connection in found],
            s=list(command.symbols),
            options=dict(command.options),
            t=self._hub.reached_ms,
        )
        if command.do in FRAME_FAULTS:
            for connection in found:
                self._strike_frames(connection, command)
        elif command.do in CONNECTION_FAULTS:
            for connection in found:
                self._strike(connection, command)
        elif command.do in PRIVATE_COMMANDS:
            self._office.apply(command, _times(command) if "times" in command.options else None)
        else:
            self._change_rules(command)
        return {"do": command.do, "c": [connection.number for connection in found]}

    def _chosen(self, command: Command) -> list[Connection]:
        """Open connections that the command means, in the order they were opened."""
        found = sorted((one for one in self._hub.connections if one.open), key=lambda one: one.number)
        if command.symbols:
            wanted = set(command.symbols)
            found = [one for one in found if any(channel.symbol in wanted for channel in one.channels)]
        if isinstance(command.connections, tuple):
            return [one for one in found if one.number in command.connections]
        if not found or command.connections == "all":
            return found
        picks = {"random": self._dice.choice(found), "newest": found[-1], "oldest": found[0]}
        return [picks[command.connections]]

    def _faults_of(self, connection: Connection) -> ConnectionFaults:
        if connection.faults is None:
            connection.faults = ConnectionFaults(
                connection,
                self._dice,
                self._monotonic,
                self._rules.note,
                lambda item: self._sent(connection, item),
                lambda parcel, send_ms: self._hub.encoder(parcel.channel).deals_frame(parcel.prints, send_ms),
            )
        return connection.faults

    def _sent(self, connection: Connection, item: Outgoing) -> None:
        if item.spans:
            self._hub.journal.sent(connection.number, item.symbol, item.spans, item.why)

    def _strike(self, connection: Connection, command: Command) -> None:
        options, number = command.options, connection.number
        if command.do == "duplicate":
            frames = [parcel for parcel in connection.recent if not command.symbols or _named(parcel, command)]
            self._faults_of(connection).send_again(frames[-options["frames"] :])
            return
        self._rules.note(command.do, c=number, **{name: value for name, value in options.items() if value is not None})
        match command.do:
            case "reset":
                connection.cut("reset on command")
            case "close" if options["code"] == _NO_CLOSE_FRAME:
                connection.cut("closed on command without a close frame", reset=False)
            case "close":
                connection.close(Close(options["code"], options["reason"]))
            case "slow_reader":
                connection.close_slow_reader()
            case "half_open":
                self._faults_of(connection).half_open(options["seconds"])
            case "silence":
                self._faults_of(connection).silence(options["seconds"], lose=options["lose"])
            case "mute_market":
                self._faults_of(connection).mute(options["seconds"])

    def _strike_frames(self, connection: Connection, command: Command) -> None:
        """Wait for deals frames to spoil, or send something wrong beside them at once."""
        options = dict(command.options)
        faults = self._faults_of(connection)
        if options.get("replace", True):
            faults.arm(command.do, command.symbols, options)
            return
        base = self._any_frame(connection, command)
        for _ in range(options["frames"] if base else 0):
            faults.send_extra(command.do, base, options)

    def _any_frame(self, connection: Connection, command: Command) -> bytes:
        """A deals frame of the connection to make a wrong one of; none if it has no such channel."""
        channels = [one for one in connection.channels if one.kind == "deals"]
        channels = [one for one in channels if not command.symbols or one.symbol in command.symbols]
        if not channels:
            return b""
        channel = self._dice.choice(channels)
        prints = self._hub.source.last_trades(channel.symbol, self._hub.reached_ms, 3).prints()
        return self._hub.encoder(channel).deals_frame(prints, max(self._hub.reached_ms, self._hub.clock.start_ms))

    def _change_rules(self, command: Command) -> None:
        rules, options, now = self._rules, command.options, self._monotonic()
        until = None if options.get("seconds") is None else now + options["seconds"]
        match command.do:
            case "refuse":
                rules.refusals.append(Refusal(frozenset(options["channels"]), frozenset(command.symbols), until))
            case "ack":
                only = command.connections if isinstance(command.connections, tuple) else None
                rules.acks += [AckFault(options["mode"], options["seconds"], only)] * options["times"]
            case "http_status":
                rules.upgrades.append(Limited(dict(options), _times(command), until))
            case "rest":
                rules.rest.append(Limited(dict(options), _times(command), until))
            case "rest_lag":
                rules.rest_lag_ms = options["ms"]
            case "clock_skew":
                rules.clock_skew_ms = options["ms"]
                self._hub.forget_encoders()
            case "heal":
                self._heal()
            case _:
                self._change_symbols(command)
        if command.do in ("rest_lag", "clock_skew", "list", "delist"):
            rules.note(command.do, s=list(command.symbols), **options)

    def _change_symbols(self, command: Command) -> None:
        for symbol in command.symbols:
            if command.do == "list":
                try:
                    self._hub.list_symbol(symbol)
                except UnknownSymbolError as error:
                    raise BadCommandError(str(error)) from None
            elif symbol not in self._hub.listed:
                raise BadCommandError(f"{symbol} is not listed")
            elif command.do == "delist":
                self._hub.delist_symbol(symbol)
            else:
                self._rules.swallows[symbol] = Swallow(command.options["trades"], command.options["rest"])

    def _heal(self) -> None:
        self._rules.heal()
        self._office.heal()
        self._hub.forget_encoders()
        for connection in self._hub.connections:
            if connection.faults is not None:
                connection.faults.heal()


def _named(parcel: Parcel, command: Command) -> bool:
    return parcel.channel.symbol in command.symbols


def _times(command: Command) -> int | None:
    """One use, unless the command says how many or how long."""
    if command.options["times"] is None and command.options["seconds"] is None:
        return 1
    times: int | None = command.options["times"]
    return times
