"""Other engines on the same trades. Each runs as a script in an environment of its own, `.venv-bench`."""
