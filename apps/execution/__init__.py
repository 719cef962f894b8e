"""Orders, trades and venues. The only place that touches a venue."""
