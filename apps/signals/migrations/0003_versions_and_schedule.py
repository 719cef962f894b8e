"""Versions say who made them and why, cannot be changed any more, and may follow each other within a session."""

import django.db.models.deletion
from django.db import migrations, models

FREEZE = """
CREATE FUNCTION signals_refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'a row of % is frozen: add a new one', TG_TABLE_NAME USING ERRCODE = 'restrict_violation';
END $$;
CREATE TRIGGER frozen BEFORE UPDATE OR DELETE ON signals_strategyversion
    FOR EACH ROW EXECUTE FUNCTION signals_refuse_change();
CREATE TRIGGER frozen BEFORE UPDATE OR DELETE ON signals_parameterschedule
    FOR EACH ROW EXECUTE FUNCTION signals_refuse_change();
"""
THAW = """
DROP TRIGGER frozen ON signals_parameterschedule;
DROP TRIGGER frozen ON signals_strategyversion;
DROP FUNCTION signals_refuse_change();
"""


class Migration(migrations.Migration):
    dependencies = [
        ("market", "0003_feed_ledger"),
        ("portfolio", "0001_initial"),
        ("signals", "0002_signal_refusal"),
    ]

    operations = [
        migrations.AddField("strategyversion", "author", models.CharField(default="system", max_length=150)),
        migrations.AddField("strategyversion", "reason", models.CharField(blank=True, default="", max_length=200)),
        migrations.AddField(
            "strategyversion",
            "changes",
            models.JSONField(default=dict, help_text="against the version before: parameter -> [before, now]"),
        ),
        migrations.CreateModel(
            name="EvaluatedMinute",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("minute", models.BigIntegerField()),
                (
                    "cursor",
                    models.OneToOneField(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="evaluated_minute",
                        to="market.shardcursor",
                    ),
                ),
            ],
        ),
        migrations.CreateModel(
            name="ParameterSchedule",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("from_minute", models.BigIntegerField(help_text="event minute since 1970")),
                ("set_by", models.CharField(max_length=150)),
                ("reason", models.CharField(max_length=200)),
                ("created_at", models.DateTimeField(auto_now_add=True)),
                (
                    "base",
                    models.ForeignKey(
                        help_text="the version that the session began with",
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="+",
                        to="signals.strategyversion",
                    ),
                ),
                (
                    "session",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="schedule",
                        to="portfolio.tradingsession",
                    ),
                ),
                (
                    "version",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="schedules",
                        to="signals.strategyversion",
                    ),
                ),
            ],
            options={"ordering": ["id"]},
        ),
        migrations.RunSQL(FREEZE, THAW),
    ]
