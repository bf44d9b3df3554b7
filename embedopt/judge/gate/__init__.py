"""Decides whether a change is worse."""
