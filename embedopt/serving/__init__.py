"""Adaptive batching: single requests are encoded together while the encoder is busy."""
