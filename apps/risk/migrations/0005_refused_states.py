"""Changes of a trading state that were refused."""

import django.db.models.deletion
from django.db import migrations, models

SCOPES = [("account", "Account"), ("strategy", "Strategy"), ("symbol", "Symbol")]


class Migration(migrations.Migration):
    dependencies = [
        ("risk", "0004_controls"),
    ]

    operations = [
        migrations.CreateModel(
            name="StateRefusal",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("asked", models.CharField(help_text="the state, or what was pressed", max_length=8)),
                ("scope", models.CharField(choices=SCOPES, default="account", max_length=8)),
                ("subject", models.CharField(blank=True, default="", max_length=40)),
                ("set_by", models.CharField(max_length=150)),
                ("reason", models.CharField(blank=True, max_length=200)),
                ("why", models.CharField(help_text="it was refused", max_length=300)),
                ("created_at", models.DateTimeField(auto_now_add=True)),
                (
                    "account",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="refused_states",
                        to="portfolio.account",
                    ),
                ),
            ],
        ),
    ]
