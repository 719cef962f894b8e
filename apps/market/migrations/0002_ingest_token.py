"""The fencing token of the ingest worker comes from a sequence: a later life always has a greater token."""

from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("market", "0001_initial")]
    operations = [
        migrations.RunSQL(
            sql="CREATE SEQUENCE market_ingest_token START 1",
            reverse_sql="DROP SEQUENCE market_ingest_token",
        ),
    ]
