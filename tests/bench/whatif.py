"""How long a what-if over one day of 20 symbols takes, in a warm process and as a command: `whatif.py TRADES ROUNDS`.

Run with fresh servers (`apps.ops.embedded exec --temporary`): the day is archived as a session's feed, what the session
decides on it is written down as history, and then the question is put. Prints one line of JSON.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import django
import numpy as np
from django.conf import settings
from django.core.management import call_command

from apps.engine.tapes import Tape
from tests.bench.market import HALF_DAY_MINUTES, HALF_DAY_TRADES, MINUTES_STEP, SCALE, START_MS, Market, merged
from tests.ingest.processes import REPOSITORY

if TYPE_CHECKING:
    from apps.backtest.services.whatif import WhatIf

SYMBOLS: Final = 20
CHANGES: Final = {"threshold_pct": "1.5"}
DAY: Final = datetime.fromtimestamp(START_MS / 1000, UTC).date()
_GIVE_UP_SECONDS: Final = 600
_SIDES: Final = np.array(["", "buy", "sell"])


def measure_whatif(trades: int, rounds: int) -> dict[str, Any]:
    """Start the servers and this module on them."""
    command = [sys.executable, "-m", "apps.ops.embedded", "exec", "--temporary", "--"]
    command += [sys.executable, "-m", "tests.bench.whatif", str(trades), str(rounds)]
    done = subprocess.run(
        command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True, check=True, timeout=_GIVE_UP_SECONDS
    )
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def write_recording(folder: Path, tapes: Mapping[str, Tape]) -> Path:
    """The trades as a recording with its instruments beside it."""
    columns = merged(tapes)
    names = np.array(list(tapes))[columns["symbol"]].tolist()
    unit, size = 10**SCALE.price_decimals, 10**SCALE.quantity_decimals
    rows = zip(
        names,
        columns["ts"].tolist(),
        _SIDES[columns["side"]].tolist(),
        columns["price"].tolist(),
        columns["quantity"].tolist(),
        strict=True,
    )
    path = folder / "market.csv"
    with path.open("w", encoding="utf-8") as file:
        file.write("symbol,time_ms,trade_id,aggressor_side,price,quantity\n")
        file.writelines(
            f"{name},{ts},{number},{side},{price // unit}.{price % unit:0{SCALE.price_decimals}},"
            f"{quantity // size}.{quantity % size:0{SCALE.quantity_decimals}}\n"
            for number, (name, ts, side, price, quantity) in enumerate(rows, 1)
        )
    (folder / "market.instruments.json").write_text(json.dumps({name: _spec(name) for name in tapes}), encoding="utf-8")
    return path


def _spec(symbol: str) -> dict[str, object]:
    return {
        "baseAsset": symbol.removesuffix("USDT"),
        "quoteAsset": "USDT",
        "baseAssetPrecision": SCALE.quantity_decimals,
        "quotePrecision": SCALE.price_decimals,
        "quoteAmountPrecision": "1",
        "takerCommission": "0.0005",
    }


def _measure(trades: int, rounds: int) -> dict[str, Any]:
    from tests.backtest.past import live_through

    call_command("migrate", verbosity=0)
    minutes = max(trades * HALF_DAY_MINUTES // (SYMBOLS * HALF_DAY_TRADES) // MINUTES_STEP, 1) * MINUTES_STEP
    with tempfile.TemporaryDirectory(prefix="cdb-bench-") as name:
        past = live_through(write_recording(Path(name), Market(SYMBOLS).slice(minutes)), settings.ARCHIVE_DIR)
    again = _ask({})
    assert again.comparison.identical, again.comparison.first_difference
    seconds, other = [], again
    for _ in range(rounds):
        started = time.perf_counter()
        other = _ask(CHANGES)
        seconds.append(time.perf_counter() - started)
    return {
        "whatif_s": statistics.median(seconds),
        "whatif_command_s": statistics.median(_command() for _ in range(rounds)),
        "whatif_trades": other.trades,
        "whatif_decisions_of_history": len(past.result.decisions),
        "whatif_decisions_compared": other.comparison.compared,
    }


def _ask(changes: Mapping[str, str]) -> WhatIf:
    from apps.backtest.services.whatif import what_if

    found = what_if(day=DAY, changes=changes)
    assert found is not None
    return found


def _command() -> float:
    """The whole command, from its start to its end."""
    words = [f"{name}={value}" for name, value in CHANGES.items()]
    command = [sys.executable, "manage.py", "whatif", "--day", DAY.isoformat(), "--json", "--set", *words]
    started = time.perf_counter()
    done = subprocess.run(command, cwd=REPOSITORY, stdout=subprocess.PIPE, check=True, timeout=_GIVE_UP_SECONDS)
    seconds = time.perf_counter() - started
    assert json.loads(done.stdout)["compared"]
    return seconds


if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "cdb_project.settings")
    django.setup()
    print(json.dumps(_measure(int(sys.argv[1]), int(sys.argv[2]))))
