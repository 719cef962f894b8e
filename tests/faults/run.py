"""One run: start, play the script, heal everything, wait until the ledger has come to rest, judge."""

from __future__ import annotations

import json
import shutil
import time
import traceback
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from tests.faults.actions import Event, events_of, heal
from tests.faults.checker import Verdict, check
from tests.faults.evidence import Evidence, read_journal, read_stream, read_tables
from tests.faults.lane import KeeperFailed, Lane
from tests.faults.processes import Stuck
from tests.faults.script import Script, write
from tests.faults.struck import journal_faults, struck
from tests.faults.world import Setup, World

SPEED: Final = 60.0  # a minute of the market in a second
RATE: Final = 30.0  # of all rules: a timeout of 30 s in one
SYMBOLS: Final = 6
TICK_SECONDS: Final = 0.02
FURTHER_MINUTES: Final = 2  # closed after everything was healed
STREAM_SECONDS: Final = 60
SETTLE_SECONDS: Final = 120
GOOD_EXITS: Final = frozenset({0, 3})  # asked to stop; a newer ingest has taken over


@dataclass
class Result:
    """What one seed gave. `evidence` names the folder that is kept after a failure."""

    seed: int
    kinds: tuple[str, ...]
    struck: tuple[str, ...] = ()
    minutes: dict[str, int] = field(default_factory=dict)
    reasons: dict[str, int] = field(default_factory=dict)
    summary: str = ""
    faults: list[str] = field(default_factory=list)
    seconds: float = 0.0
    evidence: str = ""

    @property
    def ok(self) -> bool:
        return not self.faults


def perform(lane: Lane, seed: int, folder: Path) -> Result:
    """Run one seed in `folder`, which is removed if nothing is wrong. Raises nothing: what went wrong is a fault."""
    script = write(seed)
    result = Result(seed, script.kinds)
    began = time.monotonic()
    folder.mkdir(parents=True)
    (folder / "script.txt").write_text(f"seed {seed}: {script.words()}\n")
    try:
        _perform(lane, script, folder, result)
    except Stuck as stuck:
        result.faults.append(str(stuck))
    except KeeperFailed as failed:
        result.faults.append(f"keeper: {failed}")
    except Exception:  # noqa: BLE001  (a run that breaks is a failure with its reason, and the next seed goes on)
        result.faults.append(traceback.format_exc())
    result.seconds = round(time.monotonic() - began, 1)
    if result.ok:
        shutil.rmtree(folder)
    else:
        result.evidence = str(folder)
        shutil.copy(lane.keeper_log, folder)
        (folder / "result.json").write_text(json.dumps(asdict(result), indent=1))
    return result


def _perform(lane: Lane, script: Script, folder: Path, result: Result) -> None:
    world = World(lane, setup_of(script), folder)
    begun = False
    try:
        world.start()
        begun = True
        _wait(world, "all connections stream", world.streaming, STREAM_SECONDS)
        _play(world, [event for step in script.steps for event in events_of(step)])
        heal(world)
        try:
            _settle(world)
        except Stuck as stuck:
            result.faults.append(str(stuck))  # what can be judged is judged all the same
        answer = world.end()
        begun = False
        world.stop_exchange()
        result.struck = struck(
            script.kinds, journal_faults(world.journal), world.way.counters(), world.transitions("rotated")
        )
        result.faults += _keeper_faults(answer) + _exit_faults(world)
        verdict = judge(world)
    finally:
        if begun:
            world.abandon()
        world.destroy()
    result.minutes, result.reasons = dict(verdict.minutes), dict(verdict.reasons)
    result.summary = verdict.summary()
    result.faults += verdict.faults


def setup_of(script: Script) -> Setup:
    return Setup(
        script.seed,
        SPEED,
        RATE,
        script.shards,
        SYMBOLS,
        trade_ids=script.trade_ids,
        tls=script.tls,
        standby=script.standby,
        rotate_seconds=script.rotate_seconds,
        exchange_options=("--trades-per-second", str(script.trades_per_second)),
    )


def _wait(world: World, what: str, condition: Any, seconds: float) -> None:
    """As `wait_until`, while ended ingests are started again."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise Stuck(f"not within {seconds:g} s: {what}")
        world.supervise()
        time.sleep(TICK_SECONDS)


def _play(world: World, events: list[Event]) -> None:
    began = time.monotonic()
    for event in sorted(events, key=lambda event: event.at):
        while time.monotonic() - began < event.at:
            world.supervise()
            time.sleep(TICK_SECONDS)
        world.note(f"{time.monotonic() - began:.2f} s: {event.words}")
        event.act(world)


def _settle(world: World) -> None:
    """Conditions in the order in which they come true, then all at once."""
    _wait(world, "all connections stream again", world.streaming, SETTLE_SECONDS)
    target = world.event_minute() + FURTHER_MINUTES
    _wait(world, f"every shard has closed minute {target}", lambda: world.closed_through(target), SETTLE_SECONDS)
    _wait(world, f"the sweep has passed minute {target}", lambda: world.swept_through(target), SETTLE_SECONDS)
    _wait(world, "no repair is due", lambda: world.repairs_due(target) == 0, SETTLE_SECONDS)


def _keeper_faults(answer: dict[str, Any]) -> list[str]:
    return [f"the keeper met an error:\n{error}" for error in answer["errors"]]


def _exit_faults(world: World) -> list[str]:
    """An ingest may end because it was fenced; any other end of its own is a defect."""
    return [
        f"an ingest ended with exit code {code}, {times} times"
        for code, times in world.exits.items()
        if code not in GOOD_EXITS
    ]


def judge(world: World) -> Verdict:
    """After the exchange has stopped: its journal is complete then."""
    evidence = Evidence(0, {}, {})
    read_tables(evidence, world.lane.database_url, world.epoch)
    read_stream(evidence, world.valkey.url, world.epoch, world.setup.shards)
    read_journal(evidence, world.journal)
    return check(evidence)
