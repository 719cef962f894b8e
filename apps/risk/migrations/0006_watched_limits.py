"""What the watchdog and reconciliation are bounded by: limits, with the values that were constants and settings."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("risk", "0005_refused_states"),
    ]

    operations = [
        migrations.AddField(
            model_name="risklimits",
            name="error_rate_max",
            field=models.DecimalField(
                decimal_places=6,
                default="0.10",
                help_text="of the orders sent within the window: rejected or lost",
                max_digits=9,
            ),
        ),
        migrations.AddField(
            model_name="risklimits",
            name="error_rate_orders_min",
            field=models.PositiveIntegerField(default=10, help_text="fewer say nothing"),
        ),
        migrations.AddField(
            model_name="risklimits",
            name="error_rate_window_ms",
            field=models.PositiveIntegerField(default=600000, help_text="wall clock"),
        ),
        migrations.AddField(
            model_name="risklimits",
            name="feed_silence_max_ms",
            field=models.PositiveIntegerField(default=10000, help_text="no feed of any symbol for so long: REDUCING"),
        ),
        migrations.AddField(
            model_name="risklimits",
            name="reconcile_balance_max",
            field=models.DecimalField(
                decimal_places=6,
                default="10",
                help_text="quote currency: up to this a balance is corrected in the ledger, without a person",
                max_digits=18,
            ),
        ),
        migrations.AddField(
            model_name="risklimits",
            name="reconcile_book_max",
            field=models.DecimalField(
                decimal_places=6,
                default="5000",
                help_text="quote currency: up to this a difference is corrected by asking and booking, without a person",
                max_digits=18,
            ),
        ),
        migrations.AddField(
            model_name="risklimits",
            name="reconcile_full_age_max_ms",
            field=models.PositiveIntegerField(default=180000, help_text="since fills and balances were: three missed"),
        ),
        migrations.AddField(
            model_name="risklimits",
            name="reconcile_orders_age_max_ms",
            field=models.PositiveIntegerField(
                default=30000, help_text="since open orders were compared with the venue's: three missed"
            ),
        ),
    ]
