import django.db.models.deletion
from django.db import migrations, models


def carry_over(apps, _schema_editor):
    """Paper orders that are there already get their owner from our record of them, and what was filled of them."""
    Order, VenueOrder = apps.get_model("execution", "Order"), apps.get_model("execution", "VenueOrder")
    VenueOrder.objects.filter(status="filled").update(filled_quantity=models.F("quantity"))
    rows = Order.objects.filter(venue="paper").values_list("account__session_id", "client_order_id")
    for session_id, client_order_id in rows.iterator():
        VenueOrder.objects.filter(client_order_id=client_order_id).update(owner=f"session:{session_id}")


def leave_as_it_is(_apps, _schema_editor):
    """Going back drops the columns."""


class Migration(migrations.Migration):
    dependencies = [
        ("execution", "0001_initial"),
        ("portfolio", "0002_trailing_stops"),
    ]

    operations = [
        migrations.CreateModel(
            name="OrderAnomaly",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("venue", models.CharField(max_length=16)),
                (
                    "kind",
                    models.CharField(
                        choices=[
                            ("unknown_order", "Unknown Order"),
                            ("wrong_symbol", "Wrong Symbol"),
                            ("wrong_side", "Wrong Side"),
                            ("price_off", "Price Off"),
                            ("overfill", "Overfill"),
                            ("oversold", "Oversold"),
                            ("conflict", "Conflict"),
                            ("twice", "Twice"),
                            ("impossible", "Impossible"),
                            ("forgotten", "Forgotten"),
                        ],
                        max_length=16,
                    ),
                ),
                ("client_order_id", models.CharField(blank=True, help_text="as the venue named it", max_length=64)),
                (
                    "reference",
                    models.CharField(help_text="the venue's trade id, or the event that cannot be", max_length=64),
                ),
                ("words", models.CharField(max_length=300)),
                ("payload", models.JSONField(help_text="what the venue said, as it was read")),
                ("times", models.PositiveIntegerField(default=1, help_text="how often it was reported")),
                ("seen_at", models.DateTimeField(auto_now_add=True)),
                ("last_at", models.DateTimeField(auto_now_add=True)),
                ("resolved_at", models.DateTimeField(blank=True, null=True)),
                ("resolved_by", models.CharField(blank=True, default="", max_length=150)),
                ("resolution", models.CharField(blank=True, default="", max_length=200)),
            ],
            options={
                "verbose_name_plural": "order anomalies",
                "permissions": [("resolve_orderanomaly", "Can resolve an order anomaly")],
            },
        ),
        migrations.AddField(
            model_name="order",
            name="ask_at",
            field=models.DateTimeField(blank=True, help_text="when the next question is due", null=True),
        ),
        migrations.AddField(
            model_name="order",
            name="asks",
            field=models.PositiveIntegerField(default=0, help_text="questions without a clear answer, in a row"),
        ),
        migrations.AddField(
            model_name="order",
            name="cancel_asked_at",
            field=models.DateTimeField(blank=True, help_text="when a cancel was asked for", null=True),
        ),
        migrations.AddField(
            model_name="order",
            name="cancel_ts",
            field=models.BigIntegerField(blank=True, help_text="event time of what made us cancel, ms", null=True),
        ),
        migrations.AddField(
            model_name="order",
            name="missing_since",
            field=models.DateTimeField(
                blank=True, help_text="when the venue first said that it has no such order", null=True
            ),
        ),
        migrations.AddField(
            model_name="order",
            name="unclear_since",
            field=models.DateTimeField(blank=True, help_text="since when the venue gave no clear answer", null=True),
        ),
        migrations.AddField(
            model_name="trade",
            name="latency_ms",
            field=models.BigIntegerField(default=0, help_text="from the trigger to the fill, event time"),
        ),
        migrations.AddField(
            model_name="trade",
            name="liquidity",
            field=models.CharField(choices=[("maker", "maker"), ("taker", "taker")], default="taker", max_length=5),
        ),
        migrations.AddField(
            model_name="trade",
            name="reference_price",
            field=models.DecimalField(
                blank=True,
                decimal_places=12,
                help_text="the quote known at the trigger, else the price that triggered",
                max_digits=30,
                null=True,
            ),
        ),
        migrations.AddField(
            model_name="trade",
            name="slippage_bps",
            field=models.DecimalField(
                blank=True,
                decimal_places=6,
                help_text="price against the reference, basis points; above zero is against us",
                max_digits=18,
                null=True,
            ),
        ),
        migrations.AddField(
            model_name="venueorder",
            name="filled_quantity",
            field=models.DecimalField(decimal_places=12, default=0, max_digits=36),
        ),
        migrations.AddField(
            model_name="venueorder",
            name="hidden_looks",
            field=models.PositiveSmallIntegerField(default=0, help_text="questions that still find no trace of it"),
        ),
        migrations.AddField(
            model_name="venueorder",
            name="outcome",
            field=models.CharField(blank=True, default="", help_text="the fault that was drawn for it", max_length=20),
        ),
        migrations.AddField(
            model_name="venueorder",
            name="owner",
            field=models.CharField(
                default="", help_text="whose order it is: one for each account there", max_length=32
            ),
        ),
        migrations.AddField(
            model_name="venueorder",
            name="rested",
            field=models.BooleanField(default=False, help_text="it has waited in the book: it is a maker"),
        ),
        migrations.AddField(
            model_name="venuetrade",
            name="hidden_looks",
            field=models.PositiveSmallIntegerField(default=0, help_text="questions that do not show it yet"),
        ),
        migrations.AddField(
            model_name="venuetrade",
            name="latency_ms",
            field=models.BigIntegerField(default=0, help_text="from the trigger to the fill, event time"),
        ),
        migrations.AddField(
            model_name="venuetrade",
            name="liquidity",
            field=models.CharField(choices=[("maker", "maker"), ("taker", "taker")], default="taker", max_length=5),
        ),
        migrations.AddField(
            model_name="venuetrade",
            name="reference_price",
            field=models.DecimalField(
                blank=True, decimal_places=12, help_text="the side's best quote then", max_digits=30, null=True
            ),
        ),
        migrations.AddField(
            model_name="venuetrade",
            name="slippage_bps",
            field=models.DecimalField(
                blank=True,
                decimal_places=6,
                help_text="price against the reference, basis points; above zero is against us",
                max_digits=18,
                null=True,
            ),
        ),
        migrations.AlterField(
            model_name="venueorder",
            name="status",
            field=models.CharField(
                choices=[
                    ("open", "Open"),
                    ("filled", "Filled"),
                    ("canceled", "Canceled"),
                    ("rejected", "Rejected"),
                    ("expired", "Expired"),
                ],
                default="open",
                max_length=8,
            ),
        ),
        migrations.AlterField(
            model_name="venueorder",
            name="ts_mature",
            field=models.BigIntegerField(help_text="event time at which it meets the quote (next), ms"),
        ),
        migrations.AlterField(
            model_name="venuetrade",
            name="order",
            field=models.ForeignKey(
                on_delete=django.db.models.deletion.PROTECT, related_name="trades", to="execution.venueorder"
            ),
        ),
        migrations.AddIndex(
            model_name="venueorder",
            index=models.Index(condition=models.Q(("status", "open")), fields=["owner"], name="venue_order_owner_open"),
        ),
        migrations.AddField(
            model_name="orderanomaly",
            name="account",
            field=models.ForeignKey(
                on_delete=django.db.models.deletion.PROTECT, related_name="order_anomalies", to="portfolio.account"
            ),
        ),
        migrations.AddField(
            model_name="orderanomaly",
            name="order",
            field=models.ForeignKey(
                blank=True,
                null=True,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="anomalies",
                to="execution.order",
            ),
        ),
        migrations.AddConstraint(
            model_name="orderanomaly",
            constraint=models.UniqueConstraint(
                fields=("venue", "kind", "client_order_id", "reference"), name="order_anomaly_once"
            ),
        ),
        migrations.AlterModelOptions(
            name="order",
            options={"permissions": [("cancel_order", "Can ask for an order to be canceled")]},
        ),
        migrations.RunPython(carry_over, leave_as_it_is),
    ]
