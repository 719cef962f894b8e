"""Trading states by scope, trips with their evidence, and what a person asked for last."""

import django.db.models.deletion
from django.db import migrations, models
from django.db.models import F


def asked_is_what_holds(apps, _schema_editor):
    """Whatever holds now holds until a person says otherwise: nobody knows any more who had asked for what."""
    apps.get_model("risk", "RiskState").objects.update(asked_state=F("trading_state"))


class Migration(migrations.Migration):
    dependencies = [
        ("portfolio", "0002_trailing_stops"),
        ("risk", "0002_tiers"),
    ]

    operations = [
        migrations.AlterModelOptions(
            name="riskstate",
            options={
                "permissions": [
                    ("change_trading_state", "Can halt and reduce trading, and sell every position"),
                    ("resume_trading", "Can let trading go on"),
                ]
            },
        ),
        migrations.AddField(
            model_name="riskstate",
            name="asked_state",
            field=models.CharField(
                choices=[("ACTIVE", "Active"), ("REDUCING", "Reducing"), ("HALTED", "Halted")],
                default="ACTIVE",
                help_text="what a person asked for last; open trips may hold it stricter",
                max_length=8,
            ),
        ),
        migrations.AddField(
            model_name="riskstatechange",
            name="scope",
            field=models.CharField(
                choices=[("account", "Account"), ("strategy", "Strategy"), ("symbol", "Symbol")],
                default="account",
                max_length=8,
            ),
        ),
        migrations.AddField(
            model_name="riskstatechange",
            name="subject",
            field=models.CharField(blank=True, default="", help_text="empty: the account", max_length=40),
        ),
        migrations.CreateModel(
            name="BreakerTrip",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("sequence", models.BigIntegerField(help_text="account sequence")),
                (
                    "cause",
                    models.CharField(
                        choices=[
                            ("DAILY_LOSS", "Daily Loss"),
                            ("DRAWDOWN", "Drawdown"),
                            ("ERROR_RATE", "Error Rate"),
                            ("ORDER_FREQUENCY", "Order Frequency"),
                            ("STALE_FEED", "Stale Feed"),
                            ("RECON", "Recon"),
                            ("EXPOSURE_DIFFERENCE", "Exposure Difference"),
                            ("EXPOSURE", "Exposure"),
                            ("NEGATIVE_CASH", "Negative Cash"),
                            ("UNKNOWN_FILL", "Unknown Fill"),
                            ("REPEAT", "Repeat"),
                            ("HEARTBEAT", "Heartbeat"),
                            ("VERSION", "Version"),
                            ("LEASE", "Lease"),
                        ],
                        max_length=20,
                    ),
                ),
                (
                    "scope",
                    models.CharField(
                        choices=[("account", "Account"), ("strategy", "Strategy"), ("symbol", "Symbol")],
                        default="account",
                        max_length=8,
                    ),
                ),
                ("subject", models.CharField(blank=True, default="", help_text="empty: the account", max_length=40)),
                (
                    "from_state",
                    models.CharField(
                        choices=[("ACTIVE", "Active"), ("REDUCING", "Reducing"), ("HALTED", "Halted")],
                        help_text="of this scope",
                        max_length=8,
                    ),
                ),
                (
                    "to_state",
                    models.CharField(
                        choices=[("ACTIVE", "Active"), ("REDUCING", "Reducing"), ("HALTED", "Halted")],
                        help_text="no laxer while this is open",
                        max_length=8,
                    ),
                ),
                ("evidence", models.JSONField(default=dict, help_text="the figures it was made on, by name")),
                ("reason", models.CharField(max_length=200)),
                ("created_at", models.DateTimeField(auto_now_add=True)),
                (
                    "gone_at",
                    models.DateTimeField(blank=True, help_text="when whoever watches the cause saw it gone", null=True),
                ),
                ("cleared_at", models.DateTimeField(blank=True, null=True)),
                ("cleared_by", models.CharField(blank=True, default="", max_length=150)),
                ("clear_reason", models.CharField(blank=True, default="", max_length=200)),
                (
                    "account",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT, related_name="trips", to="portfolio.account"
                    ),
                ),
            ],
        ),
        migrations.AddField(
            model_name="riskstatechange",
            name="trip",
            field=models.ForeignKey(
                blank=True,
                null=True,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="changes",
                to="risk.breakertrip",
            ),
        ),
        migrations.CreateModel(
            name="ScopedState",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                (
                    "scope",
                    models.CharField(
                        choices=[("account", "Account"), ("strategy", "Strategy"), ("symbol", "Symbol")], max_length=8
                    ),
                ),
                ("subject", models.CharField(help_text="the strategy's name or the symbol", max_length=40)),
                (
                    "trading_state",
                    models.CharField(
                        choices=[("ACTIVE", "Active"), ("REDUCING", "Reducing"), ("HALTED", "Halted")],
                        default="ACTIVE",
                        max_length=8,
                    ),
                ),
                (
                    "asked_state",
                    models.CharField(
                        choices=[("ACTIVE", "Active"), ("REDUCING", "Reducing"), ("HALTED", "Halted")],
                        default="ACTIVE",
                        max_length=8,
                    ),
                ),
                ("state_reason", models.CharField(blank=True, max_length=200)),
                ("state_set_by", models.CharField(blank=True, max_length=150)),
                ("state_since", models.DateTimeField(auto_now_add=True)),
                (
                    "account",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="scoped_states",
                        to="portfolio.account",
                    ),
                ),
            ],
        ),
        migrations.AddConstraint(
            model_name="breakertrip",
            constraint=models.UniqueConstraint(
                condition=models.Q(("cleared_at", None)),
                fields=("account", "cause", "scope", "subject", "to_state"),
                name="trip_open_once",
            ),
        ),
        migrations.AddConstraint(
            model_name="scopedstate",
            constraint=models.UniqueConstraint(fields=("account", "scope", "subject"), name="scoped_state_once"),
        ),
        migrations.AddConstraint(
            model_name="scopedstate",
            constraint=models.CheckConstraint(
                condition=models.Q(("scope", "account"), _negated=True), name="scoped_state_is_not_global"
            ),
        ),
        migrations.RunPython(asked_is_what_holds, migrations.RunPython.noop),
    ]
