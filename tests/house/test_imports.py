"""The import contracts of pyproject.toml hold, and each of them can fail."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.house.sources import REPOSITORY, python_files

LINT_IMPORTS = Path(sys.executable).parent / "lint-imports"
PACKAGES = ("apps", "cdb_project", "workers", "proto")
# The standard library without whatever reads a clock, throws dice or reaches outside; the contract names those.
ENGINE_MAY_IMPORT = {
    "__future__",
    "apps",
    "bisect",
    "collections",
    "dataclasses",
    "decimal",
    "enum",
    "fractions",
    "functools",
    "gc",
    "hashlib",
    "heapq",
    "itertools",
    "json",
    "math",
    "numba",
    "numpy",
    "re",
    "types",
    "typing",
}

ROAD = "the road goes one way"
OUTSIDE = "apps know neither the composition root nor the workers"
WORKERS = "workers know engine, bus and proto only"
WIRE = "the exchange and its client share nothing but the wire"
SOCKETS = "nobody knows the local exchange but through its sockets"
ENGINE = "the engine is pure: numpy and numba, no input or output, no clock, no dice"
BUS = "the bus carries values, not rows"
TASKS = "services, selectors and models never import tasks"
VENUE = "only execution touches a venue"

# (contract, the module that must not, what it must not import)
VIOLATIONS = [
    (ENGINE, "apps.engine.planted_django", "django"),
    (ENGINE, "apps.engine.planted_redis", "redis"),
    (ENGINE, "apps.engine.risk.planted_clock", "time"),
    (ENGINE, "apps.engine.strategies.planted_dice", "random"),
    (ROAD, "apps.engine.planted_bus", "apps.bus.streams"),
    (ROAD, "apps.bus.planted_market", "apps.market.models"),
    (ROAD, "apps.staff.planted_outbox", "apps.outbox.models"),
    (ROAD, "apps.market.planted_portfolio", "apps.portfolio.models"),
    (ROAD, "apps.portfolio.planted_signals", "apps.signals.models"),
    (ROAD, "apps.portfolio.planted_alerts", "apps.alerts.models"),
    (ROAD, "apps.alerts.planted_signals", "apps.signals.models"),
    (ROAD, "apps.signals.planted_execution", "apps.execution.models"),
    (ROAD, "apps.signals.planted_risk", "apps.risk.models"),
    (ROAD, "apps.risk.planted_live", "apps.live.apps"),
    (ROAD, "apps.execution.planted_ops", "apps.ops.apps"),
    (ROAD, "apps.live.planted_ops", "apps.ops.apps"),
    (ROAD, "apps.ops.planted_live", "apps.live.apps"),
    (ROAD, "apps.backtest.planted_ops", "apps.ops.apps"),
    (ROAD, "apps.ops.planted_backtest", "apps.backtest.apps"),
    (ROAD, "apps.execution.planted_backtest", "apps.backtest.apps"),
    (OUTSIDE, "apps.market.planted_settings", "cdb_project.settings"),
    (OUTSIDE, "apps.ops.planted_worker", "workers.exchange.log"),
    (OUTSIDE, "apps.signals.planted_wire", "proto.gen"),
    (WORKERS, "workers.ingest.planted_market", "apps.market.models"),
    (WORKERS, "workers.ingest.planted_settings", "cdb_project.settings"),
    (WORKERS, "workers.exchange.planted_django", "django"),
    (WIRE, "workers.ingest.planted_exchange", "workers.exchange.log"),
    (WIRE, "workers.exchange.planted_ingest", "workers.ingest.log"),
    (SOCKETS, "workers.private_stream.planted_exchange", "workers.exchange.log"),
    (SOCKETS, "cdb_project.planted_exchange", "workers.exchange.log"),
    (SOCKETS, "apps.execution.planted_exchange", "workers.exchange.log"),
    (BUS, "apps.bus.planted_django", "django"),
    (TASKS, "apps.signals.services.planted_tasks", "apps.signals.tasks"),
    (TASKS, "apps.ops.selectors.planted_tasks", "apps.signals.tasks"),
    (VENUE, "apps.risk.planted_venue", "apps.execution.venues"),
    (VENUE, "apps.ops.planted_venue", "apps.execution.venues"),
]


def lint(folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(LINT_IMPORTS), "--no-cache"],
        cwd=folder,
        env={**os.environ, "COLUMNS": "400", "NO_COLOR": "1", "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def contracts() -> list[str]:
    with (REPOSITORY / "pyproject.toml").open("rb") as file:
        return [contract["name"] for contract in tomllib.load(file)["tool"]["importlinter"]["contracts"]]


def copy_of_the_house(folder: Path) -> Path:
    """Our packages and their contracts, without anything else."""
    for package in PACKAGES:
        shutil.copytree(
            REPOSITORY / package,
            folder / package,
            ignore=lambda where, names: [
                name for name in names if not name.endswith(".py") and not (Path(where) / name).is_dir()
            ],
        )
    shutil.copy(REPOSITORY / "pyproject.toml", folder)
    return folder


def plant(folder: Path, module: str, imported: str) -> None:
    path = folder / (module.replace(".", "/") + ".py")
    path.parent.mkdir(parents=True, exist_ok=True)
    (path.parent / "__init__.py").touch()
    with path.open("a", encoding="utf-8") as file:
        file.write(f"import {imported}\n")


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> str:
    """What the linter says about a copy of the house in which every violation was planted."""
    folder = copy_of_the_house(tmp_path_factory.mktemp("house"))
    (folder / "apps" / "execution" / "venues").mkdir(exist_ok=True)
    (folder / "apps" / "execution" / "venues" / "__init__.py").touch()
    (folder / "apps" / "forgotten").mkdir()
    (folder / "apps" / "forgotten" / "__init__.py").touch()
    for _contract, module, imported in VIOLATIONS:
        plant(folder, module, imported)
    answer = lint(folder)
    assert answer.returncode == 1, answer.stdout + answer.stderr
    return answer.stdout


def section(report: str, contract: str) -> str:
    """The part of the report that explains how a contract was broken."""
    parts = re.split(r"\n(.+)\n-{3,}\n", report)
    found = {title.strip(): text for title, text in zip(parts[1::2], parts[2::2], strict=True)}
    assert contract in found, report
    return found[contract]


def test_the_contracts_hold() -> None:
    answer = lint(REPOSITORY)
    assert answer.returncode == 0, answer.stdout + answer.stderr
    assert f"Contracts: {len(contracts())} kept, 0 broken." in answer.stdout


@pytest.mark.parametrize(("contract", "module", "imported"), VIOLATIONS, ids=lambda value: str(value).split(".")[-1])
def test_a_planted_violation_is_reported(report: str, contract: str, module: str, imported: str) -> None:
    assert re.search(rf"{re.escape(module)} -> {re.escape(imported)}\b", section(report, contract))


def test_an_app_without_a_place_on_the_road_is_reported(report: str) -> None:
    assert "- apps.forgotten" in section(report, ROAD)


def test_every_contract_has_a_planted_violation() -> None:
    assert {contract for contract, _module, _imported in VIOLATIONS} == set(contracts())


def test_the_engine_imports_only_what_is_named_here() -> None:
    found = {
        f"{source.name} imports {name}"
        for source in python_files("apps/engine")
        for name in source.imported
        if name not in ENGINE_MAY_IMPORT
        # it turns event times into days of a time zone, and asks no clock
        if not (source.name == "apps/engine/risk/days.py" and name in ("datetime", "zoneinfo"))
    }
    assert not found
