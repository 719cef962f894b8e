"""Many runs, some side by side: each lane is a process that takes the next seed when it has finished one."""

from __future__ import annotations

import multiprocessing
import os
import tempfile
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.queues import Queue
from pathlib import Path
from typing import Final

from apps.ops.embedded.home import open_home
from tests.faults import lane as lanes
from tests.faults.lane import Lane
from tests.faults.run import Result, perform

RUN_SECONDS_MAX: Final = 300
PREFIX: Final = "cdb-faults-"
_END: Final = -1


@contextmanager
def evidence_folder() -> Iterator[Path]:
    """Where runs work; what failed stays there, an empty one is removed."""
    folder = Path(tempfile.mkdtemp(prefix=PREFIX))
    try:
        yield folder
    finally:
        if not any(folder.iterdir()):
            folder.rmdir()


def run_seeds(
    seeds: Sequence[int], *, lane_count: int, database_url: str, folder: Path, on_result: Callable[[Result], None]
) -> list[Result]:
    """Every seed once, at most `lane_count` at a time; `on_result` gets each as it ends. Raises if a lane dies."""
    with tempfile.TemporaryDirectory(prefix="cdb-lanes-") as name:
        home = open_home(Path(name) / "template")
        lanes.make_template(database_url, {**os.environ, "CDB_DATA_DIR": str(home.root)})
        try:
            return _spread(seeds, min(lane_count, len(seeds)), database_url, folder, Path(name), on_result)
        finally:
            lanes.drop(database_url, lanes.TEMPLATE)


def _spread(
    seeds: Sequence[int],
    lane_count: int,
    database_url: str,
    folder: Path,
    workplace: Path,
    on_result: Callable[[Result], None],
) -> list[Result]:
    context = multiprocessing.get_context("spawn")
    waiting: Queue[int] = context.Queue()
    done: Queue[Result | str] = context.Queue()
    for seed in (*seeds, *[_END] * lane_count):
        waiting.put(seed)
    processes = [
        context.Process(
            target=_work, args=(number, database_url, workplace / f"lane-{number}", folder, waiting, done), daemon=True
        )
        for number in range(lane_count)
    ]
    for process in processes:
        process.start()
    results: list[Result] = []
    while len(results) < len(seeds):
        found = done.get(timeout=RUN_SECONDS_MAX)
        if isinstance(found, str):
            raise RuntimeError(f"a lane has ended: {found}")
        results.append(found)
        on_result(found)
    for process in processes:
        process.join(timeout=20)
    return results


def _work(
    number: int, database_url: str, workplace: Path, folder: Path, waiting: Queue[int], done: Queue[Result | str]
) -> None:
    """The life of one lane."""
    try:
        workplace.mkdir()
        lane = Lane(number, database_url, workplace)
        lane.open()
        try:
            while (seed := waiting.get()) != _END:
                done.put(perform(lane, seed, folder / f"seed-{seed}"))
        finally:
            lane.close()
    except Exception:  # noqa: BLE001  (it is told to whoever waits for results)
        done.put(traceback.format_exc())
