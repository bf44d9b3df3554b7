"""Saved runs, and how their figures move over time."""
