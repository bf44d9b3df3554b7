"""Encoders: one file for each runtime."""
