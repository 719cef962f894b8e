"""Staff pages and their live updates. No models."""
