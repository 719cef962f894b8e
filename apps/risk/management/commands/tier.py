"""`manage.py tier show|set`: the tier of the running session's strategies, and setting it by hand."""

from __future__ import annotations

import json
from argparse import ArgumentParser
from typing import Any, Final

from django.core.management.base import BaseCommand, CommandError

from apps.engine import tiers
from apps.engine.tiers import LADDER, Tier
from apps.portfolio.models import MAIN_BOOK
from apps.portfolio.selectors import current_session, main_account
from apps.risk.management.commands.risk import REFUSED, person, reason_given
from apps.risk.models import TierChange
from apps.risk.selectors import closed_round_trips, current_limits, standing_of
from apps.risk.services import TierRefused, set_tier
from apps.signals.models import SessionStrategy
from apps.signals.services.schedules import version_in_force
from apps.staff import times

HELP: Final = {
    "show": "the tier, the results that it will be judged by, and its last moves",
    "set": "move the tier by hand, from the next minute that nobody has evaluated",
}
MOVES_SHOWN: Final = 5


class Command(BaseCommand):
    help = "Show or set how much the session's strategies are trusted. Every move is kept with its evidence."

    def add_arguments(self, parser: ArgumentParser) -> None:
        actions = parser.add_subparsers(dest="action", required=True, metavar="show|set")
        showing = actions.add_parser("show", help=HELP["show"], description=HELP["show"])
        setting = actions.add_parser("set", help=HELP["set"], description=HELP["set"])
        setting.add_argument("tier", type=str.upper, choices=[str(tier) for tier in LADDER])
        setting.add_argument("--reason", required=True, help="one line, kept with the move")
        setting.add_argument("--by", default="", help="who decides this (default: your user name)")
        for action in (showing, setting):
            action.add_argument("--strategy", default="", help="of which strategy, if the session runs several")
            action.add_argument("--json", action="store_true")

    def handle(self, *_: Any, **options: Any) -> None:
        bindings = _bindings(options["strategy"])
        if options["action"] == "set":
            if len(bindings) > 1:
                names = ", ".join(row.version.strategy.name for row in bindings)
                raise CommandError(f"say which with --strategy: {names}", returncode=REFUSED)
            self._set(bindings[0], options)
            return
        shown = [_report(row) for row in bindings]
        self.stdout.write(json.dumps(shown, indent=2) if options["json"] else "\n".join(map(_lines, shown)))

    def _set(self, binding: SessionStrategy, options: dict[str, Any]) -> None:
        who, why = person(options["by"]), reason_given(options["reason"])
        try:
            row = set_tier(binding_id=binding.pk, to_tier=Tier(options["tier"]), set_by=who, reason=why)
        except TierRefused as error:
            raise CommandError(str(error), returncode=REFUSED) from error
        if options["json"]:
            self.stdout.write(json.dumps(_report(binding), indent=2))
        elif row is None:
            self.stdout.write(f"{options['tier']} already; nothing changed")
        else:
            self.stdout.write(f"{row}: {why}\n{row.version} judges from {times.minute_text(row.from_minute)} on")


def _bindings(strategy: str) -> list[SessionStrategy]:
    session = current_session()
    if session is None:
        raise CommandError("no session is running: start one with `make demo` or `make up`", returncode=REFUSED)
    rows = SessionStrategy.objects.filter(session=session, book=MAIN_BOOK).select_related(
        "session", "version__strategy"
    )
    found = list(rows.filter(version__strategy__name=strategy) if strategy else rows)
    if not found:
        raise CommandError(f"the session runs no strategy {strategy}".strip(), returncode=REFUSED)
    return found


def _report(binding: SessionStrategy) -> dict[str, Any]:
    account = main_account(binding.session)
    closed = closed_round_trips(account_id=account.pk if account else 0, binding=binding)
    found, version = tiers.evidence(closed.won), version_in_force(binding)
    automatic = bool(account and current_limits(account.pk).adaptive_tiers)
    return {
        "strategy": binding.version.strategy.name,
        "version": version.version,
        "tier": standing_of(binding).tier,
        "automatic": automatic and tiers.applies_to(version.parameters),
        "round_trips": found.n,
        "wins": found.wins,
        "lower": found.lower,
        "upper": found.upper,
        "moves": [_move(row) for row in binding.tier_changes.order_by("-id")[:MOVES_SHOWN]],
    }


def _move(row: TierChange) -> dict[str, Any]:
    named = (
        "from_tier",
        "to_tier",
        "cause",
        "round_trips",
        "wins",
        "lower",
        "upper",
        "from_minute",
        "set_by",
        "reason",
    )
    return {name: getattr(row, name) for name in named} | {"at": row.created_at.isoformat()}


def _lines(report: dict[str, Any]) -> str:
    how = "moves by results and breakers" if report["automatic"] else "moves by hand only"
    lines = [
        f"{report['strategy']} v{report['version']}: {report['tier']}, {how}",
        f"  won {report['wins']} of the last {report['round_trips']} round trips (300 are looked at)",
        f"  so the win rate is from {report['lower']:.1%} to {report['upper']:.1%}",
    ]
    lines += [
        f"  {move['at'][:19]} {move['from_tier']} -> {move['to_tier']} by {move['set_by']} ({move['cause']}): "
        f"{move['reason']}"
        for move in report["moves"]
    ]
    return "\n".join(lines)
