"""Shows records and verdicts."""
