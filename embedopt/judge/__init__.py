"""Makes verdicts out of records: no clock, no thread, no I/O but reading saved runs."""
