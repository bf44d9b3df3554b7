"""Decides whether a change made anything slower, bigger or less accurate."""
