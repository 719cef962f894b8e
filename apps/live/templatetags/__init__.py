"""Template tags of the live pages."""
