"""Measures encoders and returns frozen records."""
