"""Reads across the whole road, for the state sentence, the funnel and health."""
