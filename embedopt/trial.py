"""The record of a value that ``embedopt tune`` tried."""

from embedopt.schema import Interval, record


@record
class Trial:
    """One value of one setting, compared with the default of that setting by ``embedopt tune``.

    Attributes:
        rounds: rounds in which all values of the setting were timed; with too few there is no speed-up.
        speed_up: time of the default over the time of this value, geometric mean over the rounds.
        speed_up_ci: 95 % interval of the speed-up, widened for the number of values tried.
    """

    setting: str
    value: str | int | bool
    default: bool
    kept: bool
    rounds: int
    speed_up: float | None = None
    speed_up_ci: Interval | None = None
