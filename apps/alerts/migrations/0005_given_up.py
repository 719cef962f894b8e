"""A task that was given up."""

from __future__ import annotations

from django.db import migrations, models

KINDS = [
    ("strategy_failed", "Strategy Failed"),
    ("parity_difference", "Parity Difference"),
    ("breaker_tripped", "Breaker Tripped"),
    ("exposure_near_limit", "Exposure Near Limit"),
    ("order_unknown", "Order Unknown"),
    ("order_anomaly", "Order Anomaly"),
    ("no_activity", "No Activity"),
    ("few_trades", "Few Trades"),
    ("task_given_up", "Task Given Up"),
]


class Migration(migrations.Migration):
    dependencies = [("alerts", "0004_activity")]

    operations = [migrations.AlterField("alert", "kind", models.CharField(choices=KINDS, max_length=24))]
