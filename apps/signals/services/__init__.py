"""Draining the stream: the one transaction in which bars, signals and positions in the stream move."""
