"""What an exit search believes of the price, as part of its checkpoint."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("signals", "0007_confirmed_price")]

    operations = [
        migrations.AddField(
            "exitwatch",
            "confirmed",
            models.BigIntegerField(
                default=0, help_text="price that the trades since the fill confirm, ticks; 0: not known"
            ),
        ),
        migrations.AddField(
            "exitwatch",
            "suspects",
            models.JSONField(
                blank=True,
                default=list,
                help_text="prints not believed yet: how many in a row, then ms and ticks of two",
            ),
        ),
        migrations.AddField(
            "exitwatch",
            "called_ts",
            models.BigIntegerField(
                default=0,
                help_text="when its strategy said sell on such a print, ms; 0: it did not",
            ),
        ),
    ]
