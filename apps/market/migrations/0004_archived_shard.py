import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("market", "0003_feed_ledger"),
    ]

    operations = [
        migrations.CreateModel(
            name="ArchivedShard",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("shard", models.PositiveSmallIntegerField()),
                ("archived_through", models.CharField(default="0-0", help_text="stream entry id", max_length=40)),
                ("trades", models.BigIntegerField(default=0, help_text="written so far")),
                ("quotes", models.BigIntegerField(default=0, help_text="written so far")),
                ("moved_at", models.DateTimeField(blank=True, help_text="when something was written last", null=True)),
                ("failures", models.PositiveIntegerField(default=0, help_text="attempts in a row that failed")),
                ("error", models.CharField(blank=True, help_text="what stopped the last attempt", max_length=300)),
                ("failed_at", models.DateTimeField(blank=True, null=True)),
                (
                    "epoch",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="archived_shards",
                        to="market.feedepoch",
                    ),
                ),
            ],
            options={
                "constraints": [models.UniqueConstraint(fields=("epoch", "shard"), name="archived_shard_once")],
            },
        ),
    ]
