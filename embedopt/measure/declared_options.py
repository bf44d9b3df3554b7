"""The options of a run, as pytest's command line declares them: each with a long name and a short one."""

from argparse import ArgumentError, Namespace
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, get_args

from embedopt.inference.backends import BACKENDS
from embedopt.measure.accuracy import PAIRS_LAYOUT
from embedopt.measure.options import Options
from embedopt.measure.pairs.gate_run import GatePlan
from embedopt.measure.profiles import BATCH_SIZES, ProfileName

_PREFIX = "embedopt"


def declare_options(add: Callable[..., object], taken: Collection[str] = ()) -> list[str]:
    """Declare all options of a run, and return the short names that other plugins have taken.

    Each option has a long name, ``--embedopt-model``, and a short one where it is free, ``--model``. ``add``
    is the ``addoption`` of a group of pytest's, or the ``add_argument`` of a parser, for which ``taken``
    lists the short names that are not free.
    """
    return [name for name, settings in _options() if not _declare(add, name, settings, taken)]


def _declare(
    add: Callable[..., object], short: str, settings: Mapping[str, Any], taken: Collection[str]
) -> bool:
    name = long_name(short)
    dest = name.removeprefix("--").replace("-", "_")
    if short not in taken:
        with suppress(ArgumentError):  # a plugin, or a conftest.py, has declared the short name
            add(name, short, dest=dest, **settings)
            return True
    add(name, dest=dest, **settings)
    return False


def long_name(short: str) -> str:
    """Return the long name of an option, which no other plugin has: ``--embedopt-model`` for ``--model``."""
    return short.replace("--", f"--{_PREFIX}-", 1)


def _options() -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the short name of each option, and its settings for a parser."""
    yield "--backends", {"metavar": "A,B", "help": f"all, or some of {', '.join(BACKENDS)}"}
    sizes = f"batch sizes of the latency benchmarks, some of {', '.join(map(str, BATCH_SIZES))}"
    yield "--batch-sizes", {"metavar": "1,8", "help": sizes}
    yield "--model", {"help": "local folder or hub name (default: the bundled all-MiniLM-L6-v2)"}
    yield "--revision", {"metavar": "NAME", "help": "branch, tag or commit of a hub name"}
    yield "--trust-remote-code", {"action": "store_true", "help": "let the model's own Python code run"}
    yield "--corpus", {"type": Path, "metavar": "FILE", "help": "text file, or JSON lines with a text field"}
    yield (
        "--cache-dir",
        {"type": Path, "metavar": "DIR", "help": "folder of the artifacts (or EMBEDOPT_CACHE)"},
    )
    for kind in ("query", "document"):
        text = f"put before each {kind} of retrieval: a prompt that the model names, or any string"
        help_text = f"{text} (default: the model's own for each {kind})"
        yield f"--{kind}-prompt", {"metavar": "NAME", "help": help_text}
    yield "--min-cosine", _number(Options.min_cosine, "smallest mean cosine to the reference that passes")
    profile = f"how much is measured (default: {Options.profile})"
    yield "--profile", {"choices": get_args(ProfileName), "default": Options.profile, "help": profile}
    yield "--pairs", {"type": Path, "metavar": "FILE", "help": f"judged sentence pairs: {PAIRS_LAYOUT}"}
    yield "--price-per-hour", _number(Options.price_per_hour, "dollars for an hour of this machine")
    yield "--slo-p99-ms", _number(Options.slo_p99_ms, "largest acceptable p99 under load, in ms")
    yield "--soak-s", _number(Options.soak_s, "seconds of a soak under load, 0 for none")
    yield "--bulk-texts", _number(Options.bulk_texts, "texts of the bulk benchmark, 0 for none")
    yield "--against", {"metavar": "REF", "help": "compare this code with a commit or branch, and judge"}
    yield "--against-python", {"metavar": "PATH", "help": "interpreter of the base's own environment"}
    yield "--head", {"type": Path, "metavar": "FOLDER", "help": "code to compare (default: this checkout)"}
    yield "--head-python", {"metavar": "PATH", "help": "interpreter of the head's own environment"}
    yield "--against-budget", _number(GatePlan.budget_s, "seconds that the comparison may take")
    threshold = "smallest change of a time that counts, as a share (default: that of pyproject.toml)"
    yield "--gate-threshold", {"type": float, "metavar": "SHARE", "help": threshold}


def _number(default: float, text: str) -> dict[str, Any]:
    return {"type": float, "metavar": "NUMBER", "default": default, "help": f"{text} (default: {default:g})"}


def own_options(option: Namespace) -> Namespace:
    """Return our options among those of a command line, by their short names."""
    names = [name for name in vars(option) if name.startswith(f"{_PREFIX}_")]
    return Namespace(**{name.removeprefix(f"{_PREFIX}_"): getattr(option, name) for name in names})
