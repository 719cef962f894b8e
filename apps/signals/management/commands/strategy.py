"""`manage.py strategy list|show|add|diff|use|enable|disable`: versions, and what the running session judges by."""

from __future__ import annotations

import getpass
import json
from argparse import ArgumentParser
from typing import Any, Final

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from apps.outbox.transactions import retry_tx
from apps.portfolio.models import MAIN_BOOK
from apps.portfolio.selectors import current_session
from apps.signals.models import SessionStrategy, Strategy, StrategyVersion
from apps.signals.services.failures import disable, enable
from apps.signals.services.schedules import ScheduleRefused, change_version
from apps.signals.services.versions import (
    VersionRefused,
    add_version,
    differences,
    module_of,
    newest_version,
    parse_assignments,
    refuse_nameless,
)
from apps.staff import times

REFUSED: Final = 2
HELP: Final = {
    "list": "every strategy with its newest version",
    "show": "a version: its parameters with units and bounds, who made it and why",
    "add": "a new version: the newest one's parameters with some of them changed",
    "diff": "what differs between two versions",
    "use": "let the running session follow a version, from the next minute that nobody has evaluated",
    "enable": "let a strategy that failed or was disabled judge again, from the next minute on, beginning anew",
    "disable": "let nobody judge by a strategy from the next minute on; its positions keep their stops",
}


class Command(BaseCommand):
    help = "Show versions of strategies, add one, or let the running session follow one. No version is ever changed."

    def add_arguments(self, parser: ArgumentParser) -> None:
        actions = parser.add_subparsers(dest="action", required=True, metavar="|".join(HELP))
        made = {name: actions.add_parser(name, help=words, description=words) for name, words in HELP.items()}
        for name in ("show", "add", "diff", "use", "enable", "disable"):
            made[name].add_argument("strategy", help="its name, e.g. momentum")
        made["show"].add_argument("version", nargs="?", type=int, help="default: the newest")
        made["diff"].add_argument("before", type=int)
        made["diff"].add_argument("after", type=int)
        made["use"].add_argument("version", type=int)
        made["add"].add_argument(
            "--set", action="append", nargs="+", default=[], metavar="name=value", dest="assignments"
        )  # fmt: skip
        for name in ("add", "use", "enable", "disable"):
            made[name].add_argument("--author", default="", help="who decides this (default: your user name)")
            made[name].add_argument("--reason", required=True, help="one line, kept with it")
        for parser_of_action in made.values():
            parser_of_action.add_argument("--json", action="store_true")

    def handle(self, *_: Any, **options: Any) -> None:
        try:
            found, lines = getattr(self, f"_{options['action']}")(options)
        except (VersionRefused, ScheduleRefused) as error:
            raise CommandError(str(error), returncode=REFUSED) from error
        self.stdout.write(json.dumps(found, indent=2) if options["json"] else "\n".join(lines))

    # --- each action: what it found, and the same in lines -----------------------------------------------------------

    def _list(self, _options: dict[str, Any]) -> tuple[Any, list[str]]:
        rows = [(strategy, newest_version(strategy)) for strategy in Strategy.objects.order_by("name")]
        found = [
            {"strategy": strategy.name, "description": strategy.description, "newest": row and row.version}
            for strategy, row in rows
        ]
        lines = [
            f"{strategy.name:<16} v{row.version if row else '-'}  {strategy.description}" for strategy, row in rows
        ]
        return found, lines or ["no strategy has a version yet: `manage.py strategy add NAME --reason ...`"]

    def _show(self, options: dict[str, Any]) -> tuple[Any, list[str]]:
        row = _version(options["strategy"], options["version"])
        return _as_json(row), _as_lines(row)

    def _add(self, options: dict[str, Any]) -> tuple[Any, list[str]]:
        given = parse_assignments(text for group in options["assignments"] for text in group)
        row = add_version(
            name=options["strategy"],
            changes=given,
            author=_person(options["author"]),
            reason=" ".join(options["reason"].split()),
            engine_hash=settings.ENGINE_HASH,
        )
        return _as_json(row), [f"{row} by {row.author}: {row.reason}", *_changes(row, row.changes)]

    def _diff(self, options: dict[str, Any]) -> tuple[Any, list[str]]:
        before, after = (_version(options["strategy"], options[name]) for name in ("before", "after"))
        changes = differences(before.parameters, after.parameters)
        other_engine = before.engine_hash != after.engine_hash
        lines = [*_changes(after, changes), *(["made for other engine sources"] if other_engine else [])]
        found = {"before": before.version, "after": after.version, "changes": changes, "other_engine": other_engine}
        return found, lines or ["the same parameters and the same engine sources"]

    def _use(self, options: dict[str, Any]) -> tuple[Any, list[str]]:
        version = _version(options["strategy"], options["version"])
        who, why = _person(options["author"]), " ".join(options["reason"].split())
        refuse_nameless(who, why)
        row = retry_tx(lambda: change_version(binding=_binding(version), version=version, set_by=who, reason=why))
        found = {"session": row.session_id, "version": version.version, "from_minute": row.from_minute}
        return found, [f"{version} judges from {times.minute_text(row.from_minute)} on: {row.reason}"]

    def _enable(self, options: dict[str, Any]) -> tuple[Any, list[str]]:
        return _switched(options, enabled=True)

    def _disable(self, options: dict[str, Any]) -> tuple[Any, list[str]]:
        return _switched(options, enabled=False)


def _switched(options: dict[str, Any], *, enabled: bool) -> tuple[Any, list[str]]:
    version = _version(options["strategy"], None)
    who, why = _person(options["author"]), " ".join(options["reason"].split())
    binding = retry_tx(lambda: _binding(version))
    switch = enable if enabled else disable
    row = switch(binding_id=binding.pk, set_by=who, reason=why)
    found = {"session": row.session_id, "enabled": row.enabled, "from_minute": row.from_minute}
    words = f"{row.version} judges again" if enabled else f"nobody judges by {row.version}"
    return found, [f"{words} from {times.minute_text(row.from_minute)} on: {row.reason}"]


def _version(name: str, number: int | None) -> StrategyVersion:
    versions = StrategyVersion.objects.filter(strategy__name=name).select_related("strategy")
    row = versions.filter(**({} if number is None else {"version": number})).order_by("-version").first()
    if row is None:
        raise VersionRefused(f"there is no {name}{'' if number is None else f' v{number}'}")
    return row


def _binding(version: StrategyVersion) -> SessionStrategy:
    """The running session's strategy of that name, locked against another change."""
    session = current_session()
    rows = SessionStrategy.objects.select_for_update(of=("self",)).select_related("session", "version__strategy")
    row = rows.filter(session=session, book=MAIN_BOOK, version__strategy=version.strategy).first() if session else None
    if row is None:
        raise ScheduleRefused(f"no running session trades {version.strategy}")
    return row


def _as_json(row: StrategyVersion) -> dict[str, Any]:
    return {
        "strategy": row.strategy.name,
        "version": row.version,
        "parameters": row.parameters,
        "changes": row.changes,
        "author": row.author,
        "reason": row.reason,
        "created_at": row.created_at.isoformat(),
        "engine_hash": row.engine_hash,
    }


def _as_lines(row: StrategyVersion) -> list[str]:
    specs = {spec.name: spec for spec in module_of(row.strategy.name).parameters}
    lines = [f"{row} by {row.author}, {times.full(times.to_ms(row.created_at))}: {row.reason or '-'}"]
    for name, value in _in_order(row, row.parameters):
        spec = specs.get(name)
        bounds = f"  {spec.minimum:g} to {spec.maximum:g} {spec.unit}. {spec.words}" if spec else ""
        lines.append(f"  {name:<22} {value!s:>8}{bounds}")
    return [*lines, *(["against the version before:", *_changes(row, row.changes)] if row.version > 1 else [])]


def _changes(row: StrategyVersion, changes: dict[str, list[Any]]) -> list[str]:
    return [f"  {name:<22} {_text(before)} -> {_text(after)}" for name, (before, after) in _in_order(row, changes)]


def _in_order(row: StrategyVersion, values: dict[str, Any]) -> list[tuple[str, Any]]:
    """Items by parameter in the order in which the strategy declares them; stored JSON has none."""
    names = [spec.name for spec in module_of(row.strategy.name).parameters]
    return sorted(values.items(), key=lambda item: names.index(item[0]) if item[0] in names else len(names))


def _text(value: Any) -> str:
    return "-" if value is None else str(value)


def _person(name: str) -> str:
    try:
        return name.strip() or getpass.getuser()
    except (KeyError, OSError) as error:
        raise CommandError("your user has no name here: say who decides with --author", returncode=REFUSED) from error
