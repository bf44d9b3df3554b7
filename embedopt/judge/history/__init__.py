"""Saved runs over time."""
