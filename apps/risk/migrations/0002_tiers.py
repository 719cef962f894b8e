"""Moves of a tier, and the settings that govern them."""

import django.db.models.deletion
from django.db import migrations, models

TIERS = [("LOW_TRUST", "Low Trust"), ("NORMAL", "Normal"), ("HIGH_TRUST", "High Trust")]
CAUSES = [("results", "Results"), ("breaker", "Breaker"), ("person", "Person")]


class Migration(migrations.Migration):
    dependencies = [
        ("risk", "0001_initial"),
        ("signals", "0003_versions_and_schedule"),
    ]

    operations = [
        migrations.AddField(
            "risklimits",
            "adaptive_tiers",
            models.PositiveSmallIntegerField(
                default=1, help_text="1: results and breakers move the tier; 0: only a person does"
            ),
        ),
        migrations.AddField(
            "risklimits",
            "tier_dwell_minutes",
            models.PositiveIntegerField(default=1440, help_text="event time between two moves by results"),
        ),
        migrations.CreateModel(
            name="TierChange",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("from_tier", models.CharField(choices=TIERS, max_length=12)),
                ("to_tier", models.CharField(choices=TIERS, max_length=12)),
                ("cause", models.CharField(choices=CAUSES, max_length=8)),
                (
                    "round_trips",
                    models.PositiveIntegerField(help_text="how many of the newest closed round trips were looked at"),
                ),
                (
                    "wins",
                    models.PositiveIntegerField(help_text="those of them that won more than their fees"),
                ),
                (
                    "lower",
                    models.FloatField(help_text="lower end of the win rate's interval, a fraction; a statistic"),
                ),
                ("upper", models.FloatField(help_text="its upper end")),
                (
                    "closed_before",
                    models.PositiveIntegerField(help_text="round trips closed before this move, in all"),
                ),
                (
                    "from_minute",
                    models.BigIntegerField(help_text="event minute from which the new thresholds judge"),
                ),
                (
                    "ts_event",
                    models.BigIntegerField(
                        help_text="event time of the move: of the last close, or reached when it came, ms"
                    ),
                ),
                ("set_by", models.CharField(max_length=150)),
                ("reason", models.CharField(max_length=200)),
                ("created_at", models.DateTimeField(auto_now_add=True)),
                (
                    "binding",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="tier_changes",
                        to="signals.sessionstrategy",
                    ),
                ),
                (
                    "breaker",
                    models.ForeignKey(
                        blank=True,
                        null=True,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="tier_changes",
                        to="risk.riskstatechange",
                    ),
                ),
                (
                    "version",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="tier_changes",
                        to="signals.strategyversion",
                    ),
                ),
            ],
            options={
                "permissions": [("override_tier", "Can set a tier by hand")],
                "constraints": [
                    models.UniqueConstraint(fields=("binding", "breaker"), name="tier_change_once_per_breaker")
                ],
            },
        ),
    ]
