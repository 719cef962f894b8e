"""Redis only: streams, the typed codec of engine values, the doorbell."""
