"""Symbols get and keep their connection; nobody is moved for somebody else's sake."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workers.ingest.channels import SYMBOLS_PER_CONNECTION_MAX
from workers.ingest.config import Instrument
from workers.ingest.inbox import Inbox, Joined, Left
from workers.ingest.roster import Roster, plan
from workers.ingest.status import ConnectionStatus, State


def instruments(*numbers: int) -> list[Instrument]:
    return [Instrument(f"S{number:04}USDT", 2, 2) for number in numbers]


def names(*numbers: int) -> list[str]:
    return [each.symbol for each in instruments(*numbers)]


def test_nothing_changes_where_nothing_is_to_change() -> None:
    made = plan({"feed-0": names(1, 2)}, instruments(2, 1))
    assert (made.leave, made.join) == ({}, {})


def test_a_new_symbol_goes_where_most_room_is() -> None:
    made = plan({"feed-0": names(1, 2, 3), "feed-1": names(4)}, instruments(1, 2, 3, 4, 5, 6, 7))
    assert {name: [each.symbol for each in joining] for name, joining in made.join.items()} == {
        "feed-1": names(5, 6),
        "feed-0": names(7),
    }


def test_full_connections_take_nobody_and_new_ones_are_filled_evenly() -> None:
    full = names(*range(SYMBOLS_PER_CONNECTION_MAX))
    made = plan({"feed-0": full}, instruments(*range(SYMBOLS_PER_CONNECTION_MAX + 20)))
    assert {name: len(joining) for name, joining in made.join.items()} == {"feed-1": 10, "feed-2": 10}


def test_a_connection_that_is_left_by_everybody_or_is_blocked_takes_nobody() -> None:
    made = plan({"feed-0": names(1), "feed-1": names(2)}, instruments(2, 3), closed=["feed-1"], taken=["feed-2"])
    assert made.leave == {"feed-0": names(1)}
    assert list(made.join) == ["feed-3"]


@settings(deadline=None)
@given(wishes=st.lists(st.sets(st.integers(0, 120)), min_size=1, max_size=8))
def test_every_wish_is_met_within_the_cap_and_nobody_is_moved(wishes: list[set[int]]) -> None:
    seats: dict[str, list[str]] = {}
    for wish in wishes:
        before = {symbol: name for name, seat in seats.items() for symbol in seat}
        made = plan(seats, instruments(*sorted(wish)))
        for name, gone in made.leave.items():
            seats[name] = [symbol for symbol in seats[name] if symbol not in gone]
        for name, joining in made.join.items():
            seats.setdefault(name, []).extend(each.symbol for each in joining)
        seats = {name: seat for name, seat in seats.items() if seat}
        after = {symbol: name for name, seat in seats.items() for symbol in seat}
        assert set(after) == set(names(*wish))
        assert sum(map(len, seats.values())) == len(after)
        assert all(len(seat) <= SYMBOLS_PER_CONNECTION_MAX for seat in seats.values())
        assert all(after[symbol] == name for symbol, name in before.items() if symbol in after)


@dataclass
class Recorded:
    """A connection that only notes what it is told."""

    status: ConnectionStatus
    told: list[tuple[str, Sequence[str]]] = field(default_factory=list)
    alive: bool = True

    def start(self) -> None:
        self.told.append(("start", self.status.symbols))

    def stop(self) -> None:
        self.told.append(("stop", ()))

    def join(self, timeout: float | None = None) -> None:
        self.alive = self.alive and timeout == 0

    def is_alive(self) -> bool:
        return self.alive

    def change(self, *, leave: Sequence[str] = (), join: Sequence[str] = ()) -> None:
        self.told += [("leave", leave)] if leave else []
        self.told += [("join", join)] if join else []

    def subscribe_again(self, symbol: str) -> None:
        self.told.append(("again", [symbol]))


@pytest.fixture
def made() -> list[Recorded]:
    return []


@pytest.fixture
def roster(made: list[Recorded]) -> Roster:
    def make(name: str, symbols: tuple[str, ...]) -> Recorded:
        made.append(Recorded(ConnectionStatus(name, symbols)))
        return made[-1]

    return Roster(make, Inbox())


def test_the_consumer_learns_of_a_change_before_the_connection_does(roster: Roster, made: list[Recorded]) -> None:
    roster.want(instruments(1, 2))
    roster.want(instruments(2, 3))
    assert made[0].told == [("start", tuple(names(1, 2))), ("leave", names(1)), ("join", names(3))]
    items = roster._inbox.take_all()
    assert items == [
        Joined("feed-0", tuple(instruments(1, 2))),
        Left("feed-0", tuple(names(1))),
        Joined("feed-0", tuple(instruments(3))),
    ]


def test_a_name_is_given_again_only_when_its_former_bearer_has_ended(roster: Roster, made: list[Recorded]) -> None:
    roster.want(instruments(1))
    roster.want([])
    roster.want(instruments(2))
    assert [each.status.name for each in made] == ["feed-0", "feed-1"]
    made[0].alive = False
    roster.want(instruments(2, *range(100, 115)))
    assert made[2].status.name == "feed-0"


def test_a_blocked_connection_is_not_given_new_symbols(roster: Roster, made: list[Recorded]) -> None:
    roster.want(instruments(1))
    made[0].status.state = State.BLOCKED
    roster.want(instruments(1, 2))
    assert [each.status.name for each in made] == ["feed-0", "feed-1"]


def test_after_a_stop_no_connection_is_made_any_more(roster: Roster, made: list[Recorded]) -> None:
    roster.want(instruments(1))
    assert roster.stop() == made
    roster.want(instruments(1, 2))
    assert made[0].told == [("start", tuple(names(1))), ("stop", ())]
