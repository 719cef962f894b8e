"""The outbox row, publish on commit, the relay."""
