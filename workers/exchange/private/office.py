"""The private half as the server sees it: routes, sockets with a listen key, and commands."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Final

from aiohttp import web

from workers.exchange.connection import Connection
from workers.exchange.faults.commands import BadCommandError, Command
from workers.exchange.faults.private import PrivateFault, PrivateFaults
from workers.exchange.hub import Hub
from workers.exchange.limits import Limits
from workers.exchange.private.accounts import Account
from workers.exchange.private.book import Numbers
from workers.exchange.private.desk import AccountsDesk
from workers.exchange.private.listen_keys import ListenKeys
from workers.exchange.private.orders import ZERO, Document
from workers.exchange.private.rest import PrivateRest
from workers.exchange.private.stream import Feed, PrivateStream, Waiting
from workers.exchange.private.terms import SymbolRules, Top, amended

PRIVATE_COMMANDS: Final = ("private", "expire_listen_keys", "pin", "unpin", "symbol_rules")


class Office:
    """Without accounts there is no private half. `first_id` must grow from one start of the exchange to the next."""

    def __init__(
        self,
        accounts: Sequence[Account],
        hub: Hub,
        limits: Limits,
        monotonic: Callable[[], float],
        rate: float,
        first_id: int,
    ) -> None:
        self.keys = ListenKeys(limits, monotonic)
        self.faults: PrivateFaults[Waiting] = PrivateFaults(monotonic, hub.rules.note)
        self.stream = PrivateStream(self.keys, self.faults)
        self.desk = AccountsDesk(accounts, hub, self.stream, Numbers(first_id))
        self._accounts = accounts
        self._hub = hub
        self._monotonic = monotonic
        self._rest = PrivateRest(self.desk, monotonic, rate)
        if accounts:
            hub.on_moves = self.desk.step
            hub.on_tick = self._flush

    def _flush(self) -> None:
        self.stream.flush(self._hub.rules.clock_skew_ms)

    def routes(self) -> list[web.RouteDef]:
        """Signed endpoints, if there is anybody who could sign."""
        return self._rest.routes() if self._accounts else []

    def amend(self, symbol: str, row: Document) -> None:
        """Let a row of exchangeInfo tell the rules that were changed on command."""
        rules = self.desk.rules.get(symbol)
        if rules is not None:
            row.update(amended(rules))

    # -- sockets ------------------------------------------------------------------------------------------------------

    def admit(self, listen_key: str) -> bool:
        """Whether a socket may be opened with this key; it counts as one of the key's from now on."""
        return self.keys.account_of(listen_key) is not None and self.keys.attach(listen_key)

    def opened(self, connection: Connection, listen_key: str) -> None:
        """A socket was opened with a key that was admitted."""
        account = self.keys.account_of(listen_key) or ""
        self.stream.feeds[connection.number] = Feed(connection, account, listen_key)

    def closed(self, connection: Connection) -> None:
        """It has gone."""
        feed = self.stream.feeds.pop(connection.number, None)
        if feed is not None:
            self.keys.detach(feed.listen_key)

    # -- commands -----------------------------------------------------------------------------------------------------

    def apply(self, command: Command, times: int | None) -> None:
        """Carry out one of `PRIVATE_COMMANDS`; raises BadCommandError."""
        if not self._accounts:
            raise BadCommandError(f"{command.do} needs an account")
        options = command.options
        if command.do == "private":
            seconds = options["seconds"]
            until = None if seconds is None else self._monotonic() + seconds
            self.faults.arm(PrivateFault(options["mode"], options["channel"], options["stall"], times, until))
        elif command.do == "expire_listen_keys":
            self._hub.rules.note(command.do, keys=self.keys.expire())
        else:
            for symbol in command.symbols:
                if symbol not in self._hub.listed:
                    raise BadCommandError(f"{symbol} is not listed")
                self._change_symbol(command, symbol)
            given = {name: value for name, value in options.items() if value is not None}
            self._hub.rules.note(command.do, s=list(command.symbols), **given)

    def _change_symbol(self, command: Command, symbol: str) -> None:
        options = command.options
        if command.do == "unpin":
            self.desk.pin(symbol, None)
        elif command.do == "pin":
            now = self.desk.top(symbol) or Top(ZERO, ZERO, ZERO, ZERO)
            given = {name: Decimal(value) for name, value in options.items() if value is not None}
            self.desk.pin(symbol, now._replace(**given))
        else:
            least, band = options["notional_min"], options["price_band"]
            self.desk.rules[symbol] = SymbolRules(
                suspended=options["suspended"],
                api_allowed=options["api_allowed"],
                market_orders=options["market_orders"],
                side_type=options["side_type"],
                notional_min=None if least is None else Decimal(least),
                price_band=None if band is None else Decimal(band),
            )

    def heal(self) -> None:
        """Frames and symbols' rules as they should be. A top of the book that was pinned stays so."""
        self.faults.heal()
        self.desk.rules.clear()
