"""Base and head as process pairs."""
