"""The clocks that measuring and batching are given: a test hands in one of its own."""

from collections.abc import Callable

# Returns seconds, and never goes back.
Clock = Callable[[], float]
