"""Trips and an exposure near its limit are alerts."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("alerts", "0001_alerts"),
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
                ],
                max_length=24,
            ),
        ),
    ]
