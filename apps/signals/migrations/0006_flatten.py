"""An exit that a person asked for."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("signals", "0005_failures"),
    ]

    operations = [
        migrations.AlterField(
            model_name="signal",
            name="exit_reason",
            field=models.CharField(
                blank=True,
                choices=[
                    ("stop_loss", "Stop Loss"),
                    ("trailing_stop", "Trailing Stop"),
                    ("take_profit", "Take Profit"),
                    ("max_holding", "Max Holding"),
                    ("exit_signal", "Exit Signal"),
                    ("flatten", "Flatten"),
                ],
                max_length=16,
            ),
        ),
    ]
