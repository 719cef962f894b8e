"""What is compared with a venue, each start of trading, and which life of the database this is."""

import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("execution", "0002_orders"),
        ("portfolio", "0002_trailing_stops"),
    ]

    operations = [
        migrations.CreateModel(
            name="DatabaseIncarnation",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("token", models.CharField(max_length=8, unique=True)),
                ("reason", models.CharField(max_length=200)),
                ("created_at", models.DateTimeField(auto_now_add=True)),
            ],
        ),
        migrations.CreateModel(
            name="ReconcileRun",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                (
                    "scope",
                    models.CharField(
                        choices=[
                            ("orders", "open orders and their fills"),
                            ("full", "orders, recent fills and balances"),
                            ("all", "orders, every fill of the account and balances"),
                        ],
                        max_length=8,
                    ),
                ),
                ("started_at", models.DateTimeField()),
                ("finished_at", models.DateTimeField()),
                (
                    "outcome",
                    models.CharField(
                        choices=[
                            ("clean", "Clean"),
                            ("different", "Different"),
                            ("empty", "compared 0"),
                            ("unclear", "the venue did not answer"),
                        ],
                        max_length=10,
                    ),
                ),
                (
                    "compared",
                    models.JSONField(default=dict, help_text="how many orders, fills and balances were compared"),
                ),
                ("differences", models.PositiveIntegerField(default=0, help_text="open after this run")),
                ("corrected", models.PositiveIntegerField(default=0, help_text="applied by this run")),
                (
                    "suspects",
                    models.JSONField(
                        default=dict, help_text="what differed too briefly to be called a difference, by key"
                    ),
                ),
                ("detail", models.CharField(blank=True, default="", max_length=200)),
                (
                    "account",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="reconcile_runs",
                        to="portfolio.account",
                    ),
                ),
            ],
        ),
        migrations.CreateModel(
            name="ReconcileDifference",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                (
                    "kind",
                    models.CharField(
                        choices=[
                            ("ORDER_MISSING_AT_VENUE", "order missing at venue"),
                            ("ORDER_UNKNOWN_TO_US", "order unknown to us"),
                            ("STATUS", "status"),
                            ("FILLED_QUANTITY", "filled quantity"),
                            ("TRADE_MISSING_HERE", "trade missing here"),
                            ("TRADE_UNKNOWN_AT_VENUE", "trade unknown at venue"),
                            ("TRADE_DIFFERS", "trade differs"),
                            ("BALANCE", "balance"),
                        ],
                        max_length=24,
                    ),
                ),
                ("subject", models.CharField(help_text="order, trade or currency", max_length=80)),
                ("client_order_id", models.CharField(blank=True, default="", max_length=64)),
                ("ours", models.CharField(max_length=160)),
                ("venue", models.CharField(max_length=160)),
                (
                    "correction",
                    models.CharField(
                        choices=[
                            ("ask", "ask"),
                            ("end_here", "end here"),
                            ("cancel_at_venue", "cancel at venue"),
                            ("ledger", "ledger"),
                            ("none", "none"),
                        ],
                        max_length=16,
                    ),
                ),
                (
                    "amount",
                    models.DecimalField(
                        decimal_places=18, default=0, help_text="of a balance: what is missing here", max_digits=40
                    ),
                ),
                (
                    "size",
                    models.DecimalField(
                        blank=True,
                        decimal_places=18,
                        help_text="quote currency; empty: cannot be valued",
                        max_digits=40,
                        null=True,
                    ),
                ),
                ("detail", models.CharField(blank=True, default="", max_length=200)),
                (
                    "state",
                    models.CharField(
                        choices=[
                            ("open", "waits for a person"),
                            ("applied", "corrected by itself"),
                            ("approved", "corrected as a person approved"),
                            ("dismissed", "Dismissed"),
                            ("resolved", "no longer differs"),
                        ],
                        default="open",
                        max_length=10,
                    ),
                ),
                ("found_at", models.DateTimeField(help_text="when it was seen first")),
                ("decided_at", models.DateTimeField(blank=True, null=True)),
                ("decided_by", models.CharField(blank=True, default="", max_length=150)),
                ("reason", models.CharField(blank=True, default="", max_length=200)),
                (
                    "account",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="reconcile_differences",
                        to="portfolio.account",
                    ),
                ),
                (
                    "run",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT, related_name="found", to="execution.reconcilerun"
                    ),
                ),
            ],
            options={
                "permissions": [("decide_difference", "Can approve and dismiss a reconciliation difference")],
            },
        ),
        migrations.CreateModel(
            name="TradingStart",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("cause", models.CharField(help_text="start, or what was recovered from", max_length=16)),
                ("started_at", models.DateTimeField()),
                ("finished_at", models.DateTimeField(blank=True, null=True)),
                ("ok", models.BooleanField(help_text="unknown while it runs, or if it was cut off", null=True)),
                ("steps", models.JSONField(default=list, help_text="list of {name, seconds, ok, detail}")),
                (
                    "reason",
                    models.CharField(
                        blank=True, default="", help_text="why it stopped, or what holds trading", max_length=300
                    ),
                ),
                (
                    "session",
                    models.ForeignKey(
                        blank=True,
                        null=True,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="starts",
                        to="portfolio.tradingsession",
                    ),
                ),
            ],
        ),
        migrations.AddIndex(
            model_name="reconcilerun",
            index=models.Index(fields=["account", "scope", "-id"], name="reconcile_run_newest"),
        ),
        migrations.AddConstraint(
            model_name="reconciledifference",
            constraint=models.UniqueConstraint(
                condition=models.Q(("state", "open")),
                fields=("account", "kind", "subject"),
                name="difference_open_once",
            ),
        ),
    ]
