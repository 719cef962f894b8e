"""An order that nobody can settle, and what a venue reports that cannot be ours, are alerts."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("alerts", "0002_trips"),
    ]

    operations = [
        migrations.AlterField(
            model_name="alert",
            name="kind",
            field=models.CharField(
                choices=[
                    ("strategy_failed", "Strategy Failed"),
                    ("parity_difference", "Parity Difference"),
                    ("breaker_tripped", "Breaker Tripped"),
                    ("exposure_near_limit", "Exposure Near Limit"),
                    ("order_unknown", "Order Unknown"),
                    ("order_anomaly", "Order Anomaly"),
                ],
                max_length=24,
            ),
        ),
    ]
