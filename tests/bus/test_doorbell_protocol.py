"""Model check of the wake-up protocol: every interleaving of publisher and drains ends with nothing unread."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, field


@dataclass
class World:
    tail: int = 0
    seen: int = 0
    dirty: bool = False
    locked: bool = False
    bells: int = 0
    tasks: list[Iterator[None]] = field(default_factory=list)


def publisher(world: World, entries: int) -> Iterator[None]:
    for _ in range(entries):
        world.tail += 1
        first = not world.dirty
        world.dirty = True  # append and flag are one call on the server
        yield
        if first:
            world.bells += 1
        yield


def drain(world: World, *, clear_before_lock: bool) -> Iterator[None]:
    """Ours, or the order that loses wake-ups."""
    if clear_before_lock:
        world.dirty = False
        yield
    if world.locked:
        return
    world.locked = True
    yield
    if not clear_before_lock:
        world.dirty = False
        yield
    read = world.tail
    yield
    world.seen = max(world.seen, read)
    world.locked = False
    yield
    if world.dirty:
        world.bells += 1


def visit(world: World, *, dice: random.Random, clear_at_the_end: bool) -> Iterator[None]:
    """A drain that stays: it sets the flag, reads what comes, and leaves by an ordinary drain; or, wrongly, just so."""
    yield from drain(world, clear_before_lock=False)
    world.dirty = True
    yield
    while dice.random() < 0.6:
        if world.locked:
            break
        world.locked = True
        yield
        read = world.tail
        yield
        world.seen = max(world.seen, read)
        world.locked = False
        yield
    if clear_at_the_end:
        yield from drain(world, clear_before_lock=False)
    else:
        world.dirty = False


def stuck_after(
    seed: int, *, clear_before_lock: bool = False, visits: bool = False, clear_at_the_end: bool = True
) -> bool:
    dice, world = random.Random(seed), World()
    actors: list[Iterator[None]] = [publisher(world, 6)]
    while actors or world.bells:
        if world.bells and (not actors or dice.random() < 0.5):
            world.bells -= 1
            stays = visits and dice.random() < 0.7
            actors.append(
                visit(world, dice=dice, clear_at_the_end=clear_at_the_end)
                if stays
                else drain(world, clear_before_lock=clear_before_lock)
            )
        if actors:
            actor = dice.choice(actors)
            if next(actor, "done") == "done":
                actors.remove(actor)
    return world.seen < world.tail


def test_lock_then_clear_then_read_leaves_nothing_unread() -> None:
    assert not [seed for seed in range(3_000) if stuck_after(seed)]


def test_a_drain_that_stays_and_leaves_by_an_ordinary_one_leaves_nothing_unread() -> None:
    assert not [seed for seed in range(6_000) if stuck_after(seed, visits=True)]


def test_one_that_only_clears_the_flag_as_it_leaves_does_lose_wake_ups() -> None:
    assert [seed for seed in range(3_000) if stuck_after(seed, visits=True, clear_at_the_end=False)]


def test_the_other_order_does_lose_wake_ups_so_this_model_can_fail() -> None:
    assert [seed for seed in range(3_000) if stuck_after(seed, clear_before_lock=True)]
