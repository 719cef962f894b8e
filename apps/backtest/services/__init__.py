"""What changes a run, and what it computes."""
