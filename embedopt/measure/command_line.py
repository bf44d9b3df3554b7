"""The options of a run on pytest's command line: read and checked."""

import os
import shlex
import shutil
from argparse import ArgumentError, ArgumentParser, Namespace
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from embedopt.errors import UsageError
from embedopt.inference.artifacts.weights import DEFAULT_MODEL
from embedopt.inference.backend import NO_MODEL, Backend
from embedopt.inference.backends import REFERENCE, declared, select_backends, split_names
from embedopt.measure.corpus import DEFAULT_CORPUS, corpus_in
from embedopt.measure.declared_options import declare_options, own_options
from embedopt.measure.options import AGAINST_BACKENDS, AGAINST_BATCH_SIZES, Options
from embedopt.measure.pairs import base_commit
from embedopt.measure.pairs.gate_run import GatePlan
from embedopt.measure.pairs.own_inputs import BaseInputs
from embedopt.measure.pairs.project import holds_embedopt
from embedopt.measure.pairs.worktree import resolve
from embedopt.measure.profiles import BATCH_SIZES, PROFILES, ProfileName
from embedopt.schema import describe_mistake

T = TypeVar("T")
# The options that go into :class:`Options` as they are.
_AS_GIVEN = (
    *("profile", "model", "revision", "trust_remote_code", "cache_dir", "min_cosine"),
    *("query_prompt", "document_prompt"),
    *("price_per_hour", "slo_p99_ms", "soak_s", "bulk_texts", "gate_threshold"),
)

# Options that head keeps for itself, and options of this machine: those of the base do not replace them.
_OWN = ("model", "revision", "trust_remote_code", "corpus", "pairs")
_OF_THIS_MACHINE = ("cache_dir", "against", "against_python", "head", "head_python")
# Paths in a project's configuration are relative to the project.
_PATHS = ("model", "corpus", "pairs")


def given_words(arguments: Iterable[object]) -> list[str]:
    """Return the words of the command line, after those of ``PYTEST_ADDOPTS``: they are the user's own."""
    return [*shlex.split(os.environ.get("PYTEST_ADDOPTS", "")), *map(str, arguments)]


def head_folder(option: Namespace, root: Path) -> Path:
    """Return the folder of the code that is measured: that of ``--head``, else ``root``.

    Raises:
        UsageError: there is no such folder, or nothing to compare it with.
    """
    option = own_options(option)
    if option.head is None:
        return root
    if option.against is None:
        raise UsageError(f"--head {option.head} has no base; wanted --against REF with it")
    if not option.head.is_dir():
        raise UsageError(f"--head {option.head} is no folder; wanted one of the project in a clone of it")
    return Path(os.path.abspath(option.head))  # noqa: PTH100  # links are kept, as pytest does


def parse_options(option: Namespace, root: Path, given: Sequence[str] | None = None) -> Options:
    """Read and check the options of a run of the code in the folder ``root``.

    In a gate run, the base's configuration of pytest replaces the head's, except for model and texts: a
    change can't move its own goal posts. ``given`` holds the words of the command line and the environment,
    which apply to both; None where no configuration was read.

    Raises:
        UsageError: an option has a value that is not allowed, or there is no such base; the message says what
            is wanted.
    """
    option = own_options(option)
    if option.against is not None and given is not None:
        option = _of_base(option, root, given)
    named = split_names(option.backends) if option.backends is not None else []
    chosen = parse_backends(option.backends, option.profile)
    values = {name: getattr(option, name) for name in _AS_GIVEN} | _declared_values(chosen, option)
    left_out = tuple(row for row in chosen if row.missing_packages and row.name not in named)
    return _checked(
        Options,
        backends=tuple(row for row in chosen if row not in left_out),
        left_out=left_out,
        batch_sizes=parse_batch_sizes(option.batch_sizes, option.profile),
        corpus=option.corpus or corpus_in(root),
        sentence_pairs=option.pairs,
        against=parse_gate_run(option, root),
        **values,
    )


def _of_base(own: Namespace, head: Path, given: Sequence[str]) -> Namespace:
    """Return the options that head is judged by: the base's, with head's model and texts.

    ``base_inputs`` and ``moved``, which describe the base as in :class:`GatePlan`, are added.
    """
    commit, configured = resolve(head, own.against), base_commit.given_addopts(given)
    taken = getattr(own, "taken", ())
    if own.head is not None:  # pytest has read the configuration of the checkout that it runs in
        own = _parse([*(base_commit.addopts(head) if configured is None else configured), *given], taken)
    suite = base_commit.suite_folder(head, commit)
    if suite is None:  # head adopts the suite: the base has no rules yet
        return own
    if configured is None:
        configured = base_commit.addopts(head, commit, suite)
    base, given_alone = _parse([*configured, *given], taken), _parse(given, taken)
    names = [name for name in vars(base) if name not in _OF_THIS_MACHINE]
    moved = [name for name in names if getattr(base, name) != getattr(own, name)]
    values = {name: getattr(own, name) for name in (*_OWN, *_OF_THIS_MACHINE)}
    elsewhere = [name for name in _PATHS if own.head is not None and getattr(given_alone, name) is None]
    return Namespace(
        **vars(base) | values | {name: _inside(head, values[name]) for name in elsewhere},
        moved=tuple(
            f"--{name.replace('_', '-')} {_shown(base, name)} -> {_shown(own, name)}" for name in moved
        ),
        base_inputs=BaseInputs(
            model=base.model,
            revision=base.revision,
            is_model_given=given_alone.model is not None,
            corpus=None if given_alone.corpus else base.corpus or DEFAULT_CORPUS,
        ),
    )


def _inside(folder: Path, path: T) -> T:
    """Return a path that exists in a folder as one below it, and any other value as it is."""
    if path is None or not (folder / str(path)).exists():
        return path
    return type(path)(folder / str(path))  # type: ignore[call-arg]  # a string or a path


def _parse(words: Sequence[str], taken: Sequence[str]) -> Namespace:
    """Read our options among the words of a command line, and ignore those of pytest and its plugins.

    The short names in ``taken`` belong to other plugins.
    """
    parser = ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    declare_options(parser.add_argument, taken)
    try:
        return own_options(parser.parse_known_args(words)[0])
    except ArgumentError as error:
        raise UsageError(f"addopts of base or head: {error}; wanted options of this embedopt") from None


def _shown(option: Namespace, name: str) -> str:
    value = getattr(option, name)
    return "default" if value is None else str(value)


def parse_backends(
    names: str | None, profile: ProfileName, default: str | None = None
) -> tuple[Backend, ...]:
    """Read ``--backends a,b``. None stands for the backends that the project declares.

    Where it declares none, None stands for ``default``, and without one for those of the profile. The
    reference is always included, since the other backends are compared with it.

    Raises:
        UsageError: a name is unknown, or there is none; the message lists the known ones.
    """
    own = ",".join(row.name for row in declared())
    default = own or default or PROFILES[profile].backends
    return select_backends([REFERENCE, *split_names(default if names is None else names)])


def _declared_values(rows: Sequence[Backend], option: Namespace) -> dict[str, Any]:
    """Return the options that declared rows decide: the model that they are compared with, and its prompts.

    Raises:
        UsageError: they differ among the rows, or the model is another than ``--model``.
    """
    values: dict[str, Any] = {}
    for name, key in (("query_prompt", "queries"), ("document_prompt", "documents")):
        prompts = {row.open_options[key]: row for row in rows if key in row.open_options}
        if prompts and getattr(option, name) is None:
            values[name] = _one_of(prompts, key)
    held = {row.model: row for row in rows if row.model not in (None, NO_MODEL)}
    if not held:
        return values
    model = _one_of(held, "model")
    if option.model is not None and Path(option.model).absolute() != Path(model).absolute():
        raise UsageError(
            f"--model is {option.model}, and {held[model].name} is held against {model}; wanted one model in "
            f"a run: leave --model out, or {held[model].name} with --backends"
        )
    options = held[model].open_options
    return values | {
        "model": None if model == DEFAULT_MODEL else model,
        "revision": options.get("revision"),
        "trust_remote_code": bool(options.get("trust_remote_code")),
    }


def _one_of(values: Mapping[Any, Backend], key: str) -> Any:
    """Return the only value of a key; refuse several."""
    (value, row), *others = values.items()
    for other, other_row in others:
        raise UsageError(
            f"{row.name} has {key} = {value!r}, {other_row.name} {other!r}; wanted one {key} in a run: "
            "name the backends of one with --backends"
        )
    return value


def parse_batch_sizes(sizes: str | None, profile: ProfileName) -> tuple[int, ...]:
    """Read ``--batch-sizes 1,8``; None for the profile's.

    Raises:
        UsageError: a size is unknown, or there is none; the message lists the known ones.
    """
    if sizes is None:
        return PROFILES[profile].batch_sizes
    named = [size.strip() for size in sizes.split(",") if size.strip()]
    known = {str(size): size for size in BATCH_SIZES}
    unknown = [size for size in named if size not in known]
    if unknown or not named:
        raise UsageError(
            f"unknown batch size {', '.join(unknown) or repr(sizes)}; known are: {', '.join(known)}"
        )
    return tuple(sorted({known[size] for size in named}))


def parse_gate_run(option: Namespace, head: Path) -> GatePlan | None:
    """Read ``--against`` and the options that belong to it; None without it.

    The code in the folder ``head`` is compared with the base.

    Raises:
        UsageError: an option has a value that is not allowed, or there is no such base.
    """
    if option.against is None:
        return None
    resolve(head, option.against)  # refuses a wrong name before anything is measured
    rows = parse_backends(option.backends, option.profile, AGAINST_BACKENDS)
    named = split_names(option.backends) if option.backends is not None else []
    inputs = getattr(option, "base_inputs", BaseInputs())
    if not holds_embedopt(head) and not any((named, declared(), option.model, inputs.model)):
        raise UsageError(
            "--against: pyproject.toml declares no target, so nothing of this repository would be measured; "
            "wanted [tool.embedopt.targets.NAME], --model or --backends"
        )
    if not holds_embedopt(head) and REFERENCE not in named:  # base and head would run the same installed one
        rows = tuple(row for row in rows if row.name != REFERENCE)
    return _checked(
        GatePlan,
        ref=option.against,
        head=head,
        head_python=_interpreter("--head-python", option.head_python),
        base_python=_interpreter("--against-python", option.against_python),
        backends=tuple(row.name for row in rows),
        batch_sizes=parse_batch_sizes(option.batch_sizes or AGAINST_BATCH_SIZES, option.profile),
        base_inputs=inputs,
        moved=getattr(option, "moved", ()),
        budget_s=option.against_budget,
        invariance=PROFILES[option.profile].invariance,
        threshold=option.gate_threshold,
    )


def _interpreter(option: str, name: str | None) -> str | None:
    """Return the absolute path of an interpreter, as a worker starts in another folder; None for no name."""
    if name is None:
        return None
    path = shutil.which(name)
    if path is None:
        raise UsageError(f"{option} {name} can't be run; wanted a Python interpreter")
    # Symbolic links are kept: a virtual environment's python is one, and its place selects the environment.
    return str(Path(path).absolute())


def _checked(kind: type[T], **values: Any) -> T:
    try:
        return kind(**values)
    except ValidationError as error:
        raise UsageError(describe_mistake(kind, error)) from None
