"""Fees in any coin, drawdowns, corrections, blocks of days and their reports; what is in the ledger stays there."""

import django.db.models.deletion
from django.db import migrations, models

FILL_IN = """
UPDATE portfolio_position SET cost = round(entry_price * quantity, 18) WHERE quantity <> 0;
UPDATE portfolio_equitypoint point
   SET peak = known.peak,
       drawdown = CASE WHEN known.peak > 0 THEN round((known.peak - point.equity) / known.peak, 9) ELSE 0 END
  FROM (SELECT id, greatest(max(equity) OVER (PARTITION BY account_id ORDER BY minute), 0) AS peak
          FROM portfolio_equitypoint) known
 WHERE known.id = point.id;
"""
FREEZE = """
CREATE FUNCTION portfolio_refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'a row of % is never changed or deleted: what was wrong is corrected by a new one', TG_TABLE_NAME
        USING ERRCODE = 'restrict_violation';
END $$;
CREATE TRIGGER frozen BEFORE UPDATE OR DELETE ON portfolio_ledgerentry
    FOR EACH ROW EXECUTE FUNCTION portfolio_refuse_change();
CREATE TRIGGER frozen BEFORE UPDATE OR DELETE ON portfolio_correction
    FOR EACH ROW EXECUTE FUNCTION portfolio_refuse_change();
CREATE TRIGGER frozen BEFORE UPDATE OR DELETE ON portfolio_sessionreport
    FOR EACH ROW EXECUTE FUNCTION portfolio_refuse_change();
CREATE FUNCTION portfolio_refuse_other_terms() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'session % was begun with its configuration: begin another session', OLD.id
        USING ERRCODE = 'restrict_violation';
END $$;
CREATE TRIGGER frozen BEFORE UPDATE ON portfolio_tradingsession FOR EACH ROW
    WHEN ((OLD.config, OLD.mode, OLD.epoch_id, OLD.quote_asset, OLD.seed)
          IS DISTINCT FROM (NEW.config, NEW.mode, NEW.epoch_id, NEW.quote_asset, NEW.seed))
    EXECUTE FUNCTION portfolio_refuse_other_terms();
"""
THAW = """
DROP TRIGGER frozen ON portfolio_tradingsession;
DROP FUNCTION portfolio_refuse_other_terms();
DROP TRIGGER frozen ON portfolio_sessionreport;
DROP TRIGGER frozen ON portfolio_correction;
DROP TRIGGER frozen ON portfolio_ledgerentry;
DROP FUNCTION portfolio_refuse_change();
"""
BIG_KEY = models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")


def money(words):
    return models.DecimalField(max_digits=40, decimal_places=18, default=0, help_text=words)


class Migration(migrations.Migration):
    dependencies = [
        ("portfolio", "0002_trailing_stops"),
    ]

    operations = [
        migrations.AddField(
            "equitypoint",
            "drawdown",
            models.DecimalField(
                max_digits=12, decimal_places=9, default=0, help_text="share of the peak that is gone, 0 to 1"
            ),
        ),
        migrations.AddField("equitypoint", "peak", money("highest equity up to here")),
        migrations.AddField(
            "equitypoint",
            "unvalued",
            models.JSONField(blank=True, default=dict, help_text="coins without a price, left out: coin -> amount"),
        ),
        migrations.AddField("position", "cost", money("what the quantity held now was bought for, quote currency")),
        migrations.AddField(
            "position",
            "fees_unvalued",
            models.JSONField(blank=True, default=dict, help_text="fees in coins that had no price, by coin"),
        ),
        migrations.AlterField("position", "fees", money("quote currency")),
        migrations.AlterField(
            "position",
            "quantity",
            models.DecimalField(
                max_digits=36,
                decimal_places=12,
                help_text="held now: the signed sum of its trades, less fees that were taken in the coin itself",
            ),
        ),
        migrations.AddField(
            "tradingsession",
            "ends_at",
            models.DateTimeField(blank=True, help_text="wall clock; empty: until somebody stops it", null=True),
        ),
        migrations.AddField("tradingsession", "ended_by", models.CharField(blank=True, default="", max_length=150)),
        migrations.AddField("tradingsession", "end_reason", models.CharField(blank=True, default="", max_length=200)),
        migrations.CreateModel(
            name="SessionReport",
            fields=[
                ("id", BIG_KEY),
                ("figures", models.JSONField(help_text="configuration and figures; money as exact text")),
                ("created_at", models.DateTimeField(auto_now_add=True)),
                (
                    "session",
                    models.OneToOneField(
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="report",
                        to="portfolio.tradingsession",
                    ),
                ),
            ],
            options={"abstract": False},
        ),
        migrations.CreateModel(
            name="Correction",
            fields=[
                ("id", BIG_KEY),
                ("number", models.PositiveIntegerField()),
                (
                    "reverses",
                    models.CharField(
                        blank=True, help_text="the reference whose legs it takes back, if any", max_length=80
                    ),
                ),
                ("reason", models.CharField(max_length=200)),
                ("made_by", models.CharField(max_length=150)),
                ("approved_by", models.CharField(max_length=150)),
                ("sequence", models.BigIntegerField(help_text="account sequence")),
                ("ts_event", models.BigIntegerField(help_text="event time that the account had reached, ms")),
                ("created_at", models.DateTimeField(auto_now_add=True)),
                (
                    "account",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="corrections",
                        to="portfolio.account",
                    ),
                ),
            ],
            options={
                "constraints": [
                    models.UniqueConstraint(fields=("account", "number"), name="correction_once"),
                    models.UniqueConstraint(
                        condition=models.Q(("reverses", ""), _negated=True),
                        fields=("account", "reverses"),
                        name="reversed_once",
                    ),
                ]
            },
        ),
        migrations.RunSQL(FILL_IN, migrations.RunSQL.noop),
        migrations.RunSQL(FREEZE, THAW),
    ]
