"""What `manage.py feed` says and does: each part reads into one plain object, shown as a table or as JSON."""
