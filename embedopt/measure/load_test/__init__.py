"""A server under open-loop load."""
