"""The lease: one holder at a time, whoever dies, sleeps or loses its database."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Protocol

import pytest

from apps.engine import timeouts
from apps.market.models import FeedEpoch, IngestLease, ShardCursor
from tests.ingest.leases import Hands, database_url, end_sessions, lease_of, make_epoch
from tests.ingest.processes import wait_until
from workers.ingest.config import LeaseConfig
from workers.ingest.lease import Lease
from workers.ingest.log import BoundedLog
from workers.ingest.tally import Tally

pytestmark = [pytest.mark.alone, pytest.mark.django_db(transaction=True)]

QUICK = timeouts.LEASE_QUICK_TAKEOVER_SECONDS
SELF_STOP = timeouts.LEASE_SELF_STOP_SECONDS
TTL = timeouts.LEASE_TTL_SECONDS


class Contender:
    """One process's share in the lease, in threads of the test."""

    def __init__(self, epoch: FeedEpoch, name: str, *, standby: bool = False) -> None:
        self.clock = Hands()
        self.lost: list[str] = []
        self.ended = threading.Event()
        self.looks = 0
        tally = Tally(BoundedLog(self.clock.monotonic))
        self.lease = Lease(LeaseConfig(database_url(), name, standby), epoch.pk, self.clock, tally)
        self._thread = threading.Thread(target=self._wait)

    def start(self) -> Contender:
        self._thread.start()
        return self

    def _wait(self) -> None:
        if self.lease.acquire(self.ended, self._look):
            self.lease.keep(self.lost.append)

    def _look(self) -> None:
        self.looks += 1

    @property
    def holds(self) -> bool:
        return self.lease.token > 0 and self.lease._thread is not None

    def until_it_holds(self) -> Contender:
        wait_until(lambda: self.holds, "it holds the lease", timeouts.LEASE_TAKEOVER_MAX_SECONDS)
        return self

    def let_pass(self, seconds: float) -> None:
        """Let its clock go on, by steps between which it looks."""
        while seconds > 0:
            self.clock.passed += min(seconds, 1.0)
            seconds -= 1.0
            self.see()

    def see(self, times: int = 2) -> None:
        """Wait until it has looked so often again, or holds the lease."""
        looks = self.looks + times
        wait_until(lambda: self.looks >= looks or self.holds, "it looks")

    def die(self) -> None:
        """As after kill -9: no word, the session is gone."""
        self.lease._stopping.set()
        if self.lease._thread is not None:
            self.lease._thread.join()
        self.lease._disconnect()

    def sleep(self) -> None:
        """As after SIGSTOP: the session stays."""
        self.lease._stopping.set()
        assert self.lease._thread is not None
        self.lease._thread.join()

    def close(self) -> None:
        self.ended.set()
        if self._thread.ident is not None:
            self._thread.join(10)
        assert not self._thread.is_alive()
        self.die()


class Make(Protocol):
    def __call__(self, name: str, *, standby: bool = False) -> Contender: ...


@pytest.fixture
def epoch() -> FeedEpoch:
    return make_epoch()


@pytest.fixture
def contender(epoch: FeedEpoch) -> Iterator[Make]:
    made: list[Contender] = []

    def make(name: str, *, standby: bool = False) -> Contender:
        made.append(Contender(epoch, name, standby=standby))
        return made[-1]

    yield make
    for each in made:
        each.close()


def test_a_free_lease_is_taken_at_once_with_a_new_token(contender: Make, epoch: FeedEpoch) -> None:
    first = contender("first").start().until_it_holds()
    row = lease_of(epoch)
    assert (row.token, row.holder) == (first.lease.token, "first")
    assert row.renewed_at is not None
    assert first.looks == 1
    assert first.lease.valid()
    assert first.lease.report()["holder"] == "first"


def test_a_standby_that_starts_with_the_other_leaves_a_free_lease_to_it_but_not_for_ever(
    contender: Make, epoch: FeedEpoch
) -> None:
    standby = contender("standby", standby=True).start()
    standby.see()
    assert not standby.holds
    standby.let_pass(QUICK)
    standby.until_it_holds()
    second = contender("second", standby=True).start()
    second.see()
    second.let_pass(QUICK)
    standby.lease.give_back()
    second.until_it_holds()


def test_a_standby_waits_while_the_holder_renews_and_names_it(contender: Make, epoch: FeedEpoch) -> None:
    first = contender("first").start().until_it_holds()
    began = lease_of(epoch).renewed_at
    second = contender("second").start()
    wait_until(lambda: lease_of(epoch).renewed_at != began, "renewed")
    second.see()
    second.let_pass(QUICK - 0.5)
    assert not second.holds
    assert second.lease.held_by == "first"
    assert first.lease.valid()
    assert not first.lost


def test_a_lease_that_was_given_back_is_taken_at_once(contender: Make, epoch: FeedEpoch) -> None:
    first = contender("first").start().until_it_holds()
    second = contender("second").start()
    second.see()
    first.lease.give_back()
    second.until_it_holds()
    assert second.lease.token > first.lease.token
    assert lease_of(epoch).holder == "second"


def test_after_a_kill_the_standby_waits_three_seconds_without_a_renewal_and_no_longer(contender: Make) -> None:
    first = contender("first").start().until_it_holds()
    second = contender("second").start()
    second.see()
    first.die()
    second.see()
    second.let_pass(QUICK - 1)
    assert not second.holds
    second.let_pass(1)
    second.until_it_holds()


def test_a_holder_that_sleeps_keeps_it_for_six_seconds_and_is_not_valid_after_four(contender: Make) -> None:
    first = contender("first").start().until_it_holds()
    second = contender("second").start()
    first.sleep()
    second.see(2)
    first.clock.passed += SELF_STOP
    assert not first.lease.valid()
    second.let_pass(QUICK)
    assert not second.holds
    second.let_pass(TTL - QUICK)
    second.until_it_holds()


def test_a_holder_that_wakes_up_after_a_take_over_learns_of_it_and_never_writes_again(
    contender: Make, epoch: FeedEpoch
) -> None:
    first = contender("first").start().until_it_holds()
    IngestLease.objects.filter(epoch=epoch).update(token=first.lease.token + 100, holder="other")
    wait_until(lambda: first.lost, "it learns")
    assert not first.lease.valid()
    first.lease.give_back()
    assert lease_of(epoch).renewed_at is not None  # it is not his to give back


def test_of_two_standbys_one_gets_it_and_tokens_differ(contender: Make, epoch: FeedEpoch) -> None:
    first = contender("first").start().until_it_holds()
    others = [contender(f"standby {number}").start() for number in range(2)]
    for other in others:
        other.see()
    first.die()
    for other in others:
        other.see()
        other.let_pass(QUICK)
    wait_until(lambda: any(other.holds for other in others), "one holds")
    for other in others:
        other.see() if not other.holds else None
    holders = [other for other in others if other.holds]
    assert len(holders) == 1
    assert lease_of(epoch).token == holders[0].lease.token > first.lease.token


def test_of_two_that_saw_the_same_only_one_can_take_it(contender: Make, epoch: FeedEpoch) -> None:
    leases = [contender(f"standby {number}").lease for number in range(2)]
    seen = [lease._look() for lease in leases]
    assert seen[0] == seen[1]
    assert [lease._take(saw) for lease, saw in zip(leases, seen, strict=True)] == [True, False]
    assert lease_of(epoch).token == leases[0].token


def test_a_holder_whose_session_is_cut_goes_on_and_a_standby_does_not_judge_too_early(
    contender: Make, epoch: FeedEpoch
) -> None:
    first = contender("first").start().until_it_holds()
    second = contender("second").start()
    second.see(2)
    for _ in range(3):
        renewed_at = lease_of(epoch).renewed_at
        second.let_pass(QUICK)  # too little with the session lock held, and forgotten with the connection
        assert end_sessions() >= 1
        wait_until(lambda before=renewed_at: lease_of(epoch).renewed_at != before, "renewed")  # type: ignore[misc]
    wait_until(lambda: first.lease._locked, "the session lock is held again")
    assert first.lease.valid()
    assert not second.holds
    assert not first.lost


def test_a_standby_that_could_not_look_for_a_while_does_not_judge_that_while(contender: Make) -> None:
    first = contender("first").start().until_it_holds()
    second = contender("second").start()
    second.see()
    first.sleep()
    second.see()
    second.clock.passed += 100 * TTL  # it slept itself
    second.see()
    assert not second.holds
    second.let_pass(TTL)
    second.until_it_holds()


def test_what_postgresql_knows_comes_with_the_lease(contender: Make, epoch: FeedEpoch) -> None:
    ShardCursor.objects.filter(epoch=epoch, shard=1).update(replay_from="5-0", seen_through="7-1")
    first = contender("first").start().until_it_holds()
    assert first.lease.known.entry_ids == {"0": ["0-0", "0-0"], "1": ["5-0", "7-1"]}
    assert first.lease.known.symbols_with_bars == frozenset()


def test_waiting_ends_when_it_is_asked_to_also_without_a_database(epoch: FeedEpoch) -> None:
    clock = Hands()
    lease = Lease(
        LeaseConfig("postgresql://nobody:x@127.0.0.1:9/none", "first"),
        epoch.pk,
        clock,
        Tally(BoundedLog(clock.monotonic)),
    )
    ended = threading.Event()
    looks: list[int] = []

    def look() -> None:
        looks.append(1)
        if len(looks) > 2:
            ended.set()

    assert not lease.acquire(ended, look)
    lease.give_back()
