"""The type of a clock, which measuring and batching take as an argument: tests pass a fake one."""

from collections.abc import Callable

# Returns seconds, and never goes back.
Clock = Callable[[], float]
