"""The bounds that the accuracy of a backend is held to."""

from collections.abc import Mapping

from embedopt.inference.backend import Backend
from embedopt.inference.backends import BACKENDS
from embedopt.inference.hardware import has_vnni
from embedopt.measure.machine import this_machine
from embedopt.measure.options import Options
from embedopt.records import Accuracy
from embedopt.schema import metrics


def missed_bounds(name: str, accuracy: Accuracy, options: Options) -> list[str]:
    """Return a line for each bound that a backend's accuracy misses; a metric that is None misses none."""
    bounds = _bounds(BACKENDS[name], options)
    return [
        f"{name}: {metric} is {value:.7f}, wanted {bound:g} or {better} ({this_machine().hardware_class})"
        for metric, (_, better) in metrics(Accuracy).items()
        if (bound := bounds.get(metric)) is not None and (value := getattr(accuracy, metric)) is not None
        if not (value >= bound if better == "higher" else value <= bound)  # NaN misses each
    ]


def _bounds(backend: Backend, options: Options) -> Mapping[str, float]:
    """Return the bounds by metric: ``--min-cosine``, and those of the backend's row where they apply.

    The bounds of a row belong to the default model, and some to CPUs with VNNI.
    """
    holds_here = has_vnni(this_machine().instruction_sets) or not backend.bounds_need_vnni
    applies = options.model is None and holds_here
    bounds = dict(backend.bounds) if applies else {}
    return bounds | {"cosine_mean": max(options.min_cosine, bounds.get("cosine_mean", -1.0))}
