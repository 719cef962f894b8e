"""The price that the trades up to a signal's trigger confirm."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("signals", "0006_flatten")]

    operations = [
        migrations.AddField(
            "signal",
            "confirmed_price",
            models.DecimalField(
                blank=True,
                decimal_places=12,
                help_text="that the trades up to the trigger's confirm; empty: not known",
                max_digits=30,
                null=True,
            ),
        )
    ]
