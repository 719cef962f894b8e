"""A day without trades, and one with few; alerts that nobody must act on."""

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
]


class Migration(migrations.Migration):
    dependencies = [("alerts", "0003_orders")]

    operations = [
        migrations.AlterField("alert", "kind", models.CharField(choices=KINDS, max_length=24)),
        migrations.AlterField(
            "alert",
            "severity",
            models.CharField(
                choices=[("notice", "Notice"), ("warning", "Warning"), ("critical", "Critical")], max_length=8
            ),
        ),
    ]
