"""The stages of the road, one Django app each, around a pure engine."""
