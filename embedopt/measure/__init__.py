"""Makes numbers: drives inference, returns frozen records."""
