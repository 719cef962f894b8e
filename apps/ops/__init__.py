"""Stack supervision, steward, health, verify, the operator's commands."""
