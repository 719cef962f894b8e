"""Pre-trade risk: an ordered tuple of small pure checks, all of which always run."""
