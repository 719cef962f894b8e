"""Many simulations of the same tapes on all cores: the tapes lie once in shared memory, every process looks at them.

Knows the engine only, so that a process that is spawned for it imports nothing of Django.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal
from multiprocessing.shared_memory import SharedMemory
from typing import Any, Final

import numpy as np

from apps.backtest.figures import counts_of, failures_of, performance_of
from apps.backtest.simulating import setup_of, simulate
from apps.backtest.slicing import between, whole_minutes
from apps.engine.instrument_specs import InstrumentSpec
from apps.engine.model import Scale
from apps.engine.risk.values import Limits
from apps.engine.tapes import AsciiTexts, QuoteColumns, Tape

WAITING_MAX: Final = 4  # tasks per process that are handed over before their turn
_COLUMNS: Final = ("ts", "price", "quantity")
_QUOTES: Final = ("ts", "bid", "bid_quantity", "ask", "ask_quantity")


@dataclass(frozen=True, slots=True)
class Handle:
    """Where a tape lies in shared memory, and what it takes to read it there."""

    name: str
    symbol: str
    scale: Scale
    rows: int
    id_bytes: int
    quotes: int | None
    unproven: tuple[tuple[int, str], ...]


@dataclass(frozen=True, slots=True)
class Trial:
    """One simulation: these parameters over the event times [first_ms, last_ms); None is the tapes' own end."""

    number: int
    parameters: Mapping[str, Any]
    first_ms: int | None = None
    last_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Ground:
    """What all trials of a sweep have in common."""

    specs: Mapping[str, InstrumentSpec]
    strategy: str
    version_id: int
    capital: Decimal
    limits: Limits


def run_trials(
    tapes: Mapping[str, Tape], ground: Ground, trials: Sequence[Trial], *, processes: int
) -> Iterator[tuple[int, dict[str, Any]]]:
    """(number, figures) of each trial, as they end. With one process nothing is spawned."""
    if processes <= 1 or len(trials) <= 1:
        for trial in trials:
            yield trial.number, figures_of_trial(tapes, ground, trial)
        return
    with shared(tapes) as handles:
        pool = ProcessPoolExecutor(
            min(processes, len(trials)),
            mp_context=multiprocessing.get_context("spawn"),
            initializer=_begin,
            initargs=(handles, ground),
        )
        try:
            yield from _ended(pool, trials, processes)
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _ended(pool: ProcessPoolExecutor, trials: Sequence[Trial], processes: int) -> Iterator[tuple[int, dict[str, Any]]]:
    rest = iter(trials)
    running: set[Future[tuple[int, dict[str, Any]]]] = set()
    while True:
        while len(running) < processes * WAITING_MAX and (trial := next(rest, None)) is not None:
            running.add(pool.submit(_try, trial))
        if not running:
            return
        done, running = wait(running, return_when=FIRST_COMPLETED)
        for future in done:
            yield future.result()


def figures_of_trial(tapes: Mapping[str, Tape], ground: Ground, trial: Trial) -> dict[str, Any]:
    """`result` (net of fees, quote currency, exact text), counts and performance figures of one simulation.

    Of one whose strategy raised: `failed` says on what, and there is no `result`.
    """
    setup = setup_of(
        specs=ground.specs, strategy=ground.strategy, version_id=ground.version_id, parameters=trial.parameters,
        capital=ground.capital, limits=ground.limits,
    )  # fmt: skip
    parts = {symbol: between(tape, trial.first_ms, trial.last_ms) for symbol, tape in tapes.items()}
    done = simulate(setup, whole_minutes([{symbol: part for symbol, part in parts.items() if len(part)}]))
    assert done is not None
    if done.result.failed:  # half a result would be ranked beside whole ones
        return {"result": None, "failed": failures_of(done.result)[0], **counts_of(done.result)}
    result = format(done.final_equity - ground.capital, "f")
    return {"result": result, **counts_of(done.result), **performance_of(done.performance)}


# --- in a spawned process ---------------------------------------------------------------------------------------------


class _Held:
    """What this process works with from its beginning to its end."""

    ground: Ground
    tapes: dict[str, Tape]
    blocks: list[SharedMemory]


def _begin(handles: Sequence[Handle], ground: Ground) -> None:
    _Held.ground = ground
    _Held.blocks = [SharedMemory(handle.name) for handle in handles]
    _Held.tapes = {
        handle.symbol: tape_at(handle, block) for handle, block in zip(handles, _Held.blocks, strict=True)
    }  # fmt: skip


def _try(trial: Trial) -> tuple[int, dict[str, Any]]:
    return trial.number, figures_of_trial(_Held.tapes, _Held.ground, trial)


# --- shared memory ----------------------------------------------------------------------------------------------------


@contextmanager
def shared(tapes: Mapping[str, Tape]) -> Iterator[list[Handle]]:
    """The tapes in shared memory, which is given back at the end however that comes."""
    blocks: list[SharedMemory] = []
    try:
        handles = []
        for tape in tapes.values():
            handle, block = _put(tape)
            blocks.append(block)
            handles.append(handle)
        yield handles
    finally:
        for block in blocks:
            block.close()
            block.unlink()


def _put(tape: Tape) -> tuple[Handle, SharedMemory]:
    ids = np.array([str(tape.trade_id[row]).encode() for row in range(len(tape))], dtype=np.bytes_)
    quotes = None if tape.quotes is None else [getattr(tape.quotes, name) for name in _QUOTES]
    columns: list[Any] = [getattr(tape, name) for name in _COLUMNS] + (quotes or []) + [tape.side, ids]
    block = SharedMemory(create=True, size=max(sum(column.nbytes for column in columns), 1))
    offset = 0
    for column in columns:
        view = np.ndarray(column.shape, column.dtype, block.buf, offset)
        view[:] = column
        offset += column.nbytes
    count = None if tape.quotes is None else len(tape.quotes.ts)
    handle = Handle(block.name, tape.symbol, tape.scale, len(tape), ids.dtype.itemsize, count, tape.unproven)
    return handle, block


def tape_at(handle: Handle, block: SharedMemory) -> Tape:
    """The tape that lies there; it may be read only, and only while `block` is open."""
    kinds: list[tuple[int, Any]] = [(handle.rows, np.dtype(np.int64))] * len(_COLUMNS)
    kinds += [(handle.quotes or 0, np.dtype(np.int64))] * (0 if handle.quotes is None else len(_QUOTES))
    kinds += [(handle.rows, np.dtype(np.int8)), (handle.rows, np.dtype(f"S{handle.id_bytes}"))]
    views: list[Any] = []
    offset = 0
    for count, kind in kinds:
        view: Any = np.ndarray((count,), kind, block.buf, offset)
        view.flags.writeable = False
        views.append(view)
        offset += view.nbytes
    *numbers, side, ids = views
    quotes = None if handle.quotes is None else QuoteColumns(*numbers[len(_COLUMNS) :])
    ts, price, quantity = numbers[: len(_COLUMNS)]
    return Tape(handle.symbol, handle.scale, ts, price, quantity, side, AsciiTexts(ids), quotes, handle.unproven)
