"""What every staff page is made of: exact numbers, times in UTC, and records that nobody edits. No models."""
