"""Changes as pull requests bring them, in a clone: no plant ends in green, none is red for no fault.

Each is played as a person would: ``pytest benchmarks/test_against.py --against REF``, ``embedopt gate``.
The base's rules switch times off, so that exact values alone decide and no process pair is measured. What
only time and memory can show is measured in one process pair, and judged as if all others gave the same.
"""

import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import pytest

from embedopt.evidence import PAIRED_FIGURES, Cell, PairedCell, PairedMetric, ProcessPair
from embedopt.judge.gate.pairs_rule import judge_cells
from embedopt.judge.gate.settings import GateSettings
from embedopt.measure.pairs.cells import measure_pair
from embedopt.measure.pairs.process_pair import Work, live_pair
from embedopt.measure.pairs.worker_client import Checkout, WorkerClient
from embedopt.report.words import subject
from tests.models import Pooling, make_model
from tests.repositories import git

ROOT = Path(__file__).parents[1]
_TEXTS = [
    f"{job}, {time} shift {place} in zurich for 80 %"
    for job in ("welder", "nurse", "driver", "baker")
    for time in ("day", "night")
    for place in ("at the bakery", "with python and java")
]
_NO_TIMES = "".join(f"{metric} = false\n" for metric in PAIRED_FIGURES)
_PYPROJECT = f"""
[project]
name = "shop"
version = "1"
dependencies = ["numpy==2.0.0"]

[tool.pytest.ini_options]
addopts = "--model model --corpus texts.txt --backends onnx-fp32 --batch-sizes 2 --benchmark-autosave"

[tool.embedopt.gate]
threshold = 0.02
accept = ["drift onnx-int8"]

[tool.embedopt.gate.metrics]
{_NO_TIMES}"""
ENCODER, BACKENDS = "embedopt/inference/encoder.py", "embedopt/inference/backends.py"
PIPELINE, WORKER = "embedopt/inference/pipeline.py", "embedopt/measure/worker.py"


@dataclass(frozen=True)
class Plant:
    """A change of a pull request.

    Attributes:
        changes: the file, what stands there, and what stands there afterwards.
        code: exit code of ``embedopt gate``.
        words: what pytest shows.
        arguments: further arguments of pytest.
    """

    changes: Sequence[tuple[str, str, str]]
    code: int
    words: Sequence[str]
    arguments: Sequence[str] = ()


_CHANGED = "onnx-fp32 drift: vectors changed"
_PROBED = "onnx-fp32: not comparable, head: onnx-fp32 differs from sentence-transformers by a cosine of "
_POOLING = ("model/1_Pooling/config.json", '"mean"', '"cls"')
_RETURN = "return embeddings\n"
_NOISE = "np.random.default_rng(0).normal(0, 1e-3, embeddings.shape).astype(np.float32)"
_NEW = """    Backend(
        name="new",
        summary="sentence-transformers again",
        precision="fp32",
        opener=f"{_ENCODERS}.sentence_transformers:open_torch",
    ),
"""
_RENAMED = [
    (BACKENDS, 'name="onnx-fp32"', 'name="onnx-full"'),
    (BACKENDS, 'derived_from="onnx-fp32"', 'derived_from="onnx-full"'),
]
_ACCEPT = 'accept = ["drift onnx-int8"'
INT8 = ("--backends", "onnx-int8")
PLANTS = {
    "nothing": Plant([], 0, ["pass: "]),
    "the first word is lost in the check that all encoders share": Plant(
        [
            (
                ENCODER,
                "    return checked\n\n\n",
                "    return [text.partition(' ')[2] for text in checked]\n\n\n",
            )
        ],
        6,
        ["torch-fp32 drift: vectors changed", "moved most: "],
    ),
    "another model in addopts": Plant(
        [("pyproject.toml", "--model model", "--model other")],
        6,
        [_CHANGED, "this change also moves its own goal posts: --model model -> other"],
    ),
    "worse weights and wide thresholds": Plant(
        [
            (BACKENDS, 'build=f"{_STATIC}:static_int8"', 'build=f"{_QUANTIZE}:dynamic_int8"'),
            (BACKENDS, "build_options={},", 'build_options={"per_channel": False},'),
            ("pyproject.toml", "threshold = 0.02", "threshold = 0.99"),
            ("pyproject.toml", "metrics]", "metrics]\ncosine_mean = 0.9\ncosine_min = 0.9\ndrift = 0.9"),
        ],
        3,
        ["onnx-int8 cosine_mean: regressed", "onnx-int8 drift: vectors changed", "threshold 0.02 -> 0.99"],
        INT8,
    ),
    "another default backend": Plant(
        [
            (BACKENDS, 'DEFAULT = "onnx-int8"', 'DEFAULT = "torch-fp32"'),
            (BACKENDS, "name=DEFAULT", 'name="onnx-int8"'),
        ],
        6,
        ["default drift: vectors changed, the backend is torch-fp32, was onnx-int8"],
    ),
    "the corpus loses texts": Plant(
        [("texts.txt", f"{_TEXTS[0]}\n{_TEXTS[1]}\n", "")],
        4,
        ["this change also moves its own goal posts: the corpus loses 2 texts", 'accept = ["removed texts"]'],
    ),
    "the corpus is edited": Plant(
        [("texts.txt", "nurse", "cook")], 4, ["the corpus loses 4 texts", "only the head has 4 texts"]
    ),
    "texts are added": Plant(
        [("texts.txt", _TEXTS[0], f"{_TEXTS[0]}\none more text")],
        0,
        ["only the head has 1 texts ('one more text'): nothing to compare them with"],
    ),
    "a new backend": Plant(
        [(BACKENDS, "_ROWS = (\n", f"_ROWS = (\n{_NEW}")],
        0,
        ["new: measured alone"],
        ("--backends", "onnx-fp32,new"),
    ),
    "a renamed backend": Plant(
        _RENAMED,
        4,
        ['onnx-fp32: not comparable, removed: declare it with accept = ["removed onnx-fp32"]'],
        ("--backends", "onnx-full"),
    ),
    "a renamed backend that is declared": Plant(
        [*_RENAMED, ("pyproject.toml", _ACCEPT, f'{_ACCEPT}, "removed onnx-fp32"')],
        0,
        ["onnx-fp32: declared, removed", "onnx-full: measured alone"],
        ("--backends", "onnx-full"),
    ),
    "other pooling": Plant([_POOLING], 6, ["torch-fp32 drift: vectors changed", _CHANGED]),
    "other pooling that is declared": Plant(
        [_POOLING, ("pyproject.toml", _ACCEPT, f'{_ACCEPT}, "drift onnx-fp32", "drift torch-fp32"')],
        1,
        ["onnx-fp32 drift declared", "onnx-fp32 disk_bytes: regressed"],
    ),
    "a declaration for another backend": Plant(
        [_POOLING, ("pyproject.toml", _ACCEPT, f'{_ACCEPT}, "drift torch-fp32"')], 6, [_CHANGED]
    ),
    "a declaration that the base has already": Plant(
        [_POOLING], 3, ["onnx-int8 drift: vectors changed", "onnx-int8 cosine_mean: regressed"], INT8
    ),
    "no normalisation": Plant([(PIPELINE, _RETURN, "return 1.5 * embeddings\n")], 3, [_CHANGED]),
    "texts are cut": Plant([(PIPELINE, "yield encoding.ids", "yield encoding.ids[:8]")], 4, [_PROBED]),
    "noise in the vectors": Plant([(PIPELINE, _RETURN, f"return embeddings + {_NOISE}\n")], 4, [_PROBED]),
    "vectors in half precision": Plant(
        [(PIPELINE, _RETURN, "return embeddings.astype(np.float16)\n")], 4, [_PROBED]
    ),
    "rows in another order": Plant(
        [(PIPELINE, _RETURN, "return embeddings[np.argsort([len(one) for one in tokens])]\n")],
        4,
        [_PROBED],
    ),
    "batch mates leak into a text": Plant(
        [(PIPELINE, _RETURN, "return embeddings + np.float32(1e-3) * sum(embeddings)\n")], 3, [_CHANGED]
    ),
    "the reference returns many texts in another order": Plant(
        [
            (
                "embedopt/inference/encoders/sentence_transformers.py",
                "np.asarray(embeddings, dtype=np.float32)",
                "np.asarray(embeddings[:: 1 if batch_size else -1], dtype=np.float32)",
            )
        ],
        3,
        ["onnx-fp32 cosine_mean: regressed"],
    ),
    "another version of a dependency": Plant(
        [("pyproject.toml", "numpy==2.0.0", "numpy==2.1.0")],
        4,
        ["the base has other dependencies, numpy 2.0.0 (here 2.1.0): name the interpreter"],
    ),
    "a wide threshold for every run": Plant(
        [("pyproject.toml", "--batch-sizes 2", "--batch-sizes 2 --gate-threshold 0.9")],
        0,
        ["this change also moves its own goal posts: --gate-threshold default -> 0.9"],
    ),
    "a worker that no longer gives vectors": Plant(
        [(WORKER, '"vectors", "one_batch", ', "")],
        6,
        ["onnx-fp32 drift: vectors changed, vectors that the head's worker does not give"],
    ),
    "a backend that can't be opened": Plant(
        [(PIPELINE, "from tokenizers import Tok", "from tokenizer import Tok")],
        4,
        ["onnx-fp32: not comparable, head: ModuleNotFoundError: No module named 'tokenizer'"],
    ),
}


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository of embedopt whose suite measures a small model on a few texts."""
    folder = tmp_path_factory.mktemp("plants") / "repository"
    leave_out = shutil.ignore_patterns("__pycache__", "corpus")
    for name in ("benchmarks", "embedopt"):
        shutil.copytree(ROOT / name, folder / name, ignore=leave_out)
    shutil.copy(ROOT / "conftest.py", folder)
    models: dict[str, Pooling] = {"model": "mean", "other": "cls"}
    for name, pooling in models.items():
        shutil.copytree(make_model(tmp_path_factory.mktemp(name), pooling), folder / name)
    (folder / "texts.txt").write_text("\n".join([*_TEXTS, ""]), encoding="utf8")
    (folder / "pyproject.toml").write_text(_PYPROJECT, encoding="utf8")
    (folder / ".gitignore").write_text(".benchmarks/\n", encoding="utf8")
    git(folder, "init", "-q")
    git(folder, "add", ".")
    git(folder, "commit", "-qm", "base")
    return folder


@pytest.fixture
def clone(repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A clone of the repository; all clones share the artifacts."""
    monkeypatch.setenv("EMBEDOPT_CACHE", str(repository.parent / "cache"))
    git(tmp_path, "clone", "-q", str(repository), "clone")
    return tmp_path / "clone"


def _plant(clone: Path, plant: Plant) -> None:
    for name, old, new in plant.changes:
        file = clone / name
        text = file.read_text(encoding="utf8")
        assert old in text
        file.write_text(text.replace(old, new), encoding="utf8")
    git(clone, "add", ".")
    git(clone, "commit", "-qm", "head", "--allow-empty")


def _run(python: str, clone: Path, *arguments: str) -> tuple[int, str]:
    """Run a module in the clone; return its exit code and its words, with single spaces."""
    done = subprocess.run(
        [python, "-m", *arguments], cwd=clone, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    return done.returncode, " ".join(done.stdout.split())


@pytest.mark.parametrize("name", PLANTS)
def test_a_plant_ends_as_it_should(python: str, clone: Path, name: str) -> None:
    plant = PLANTS[name]
    _plant(clone, plant)
    arguments = ["benchmarks/test_against.py", "--against", "HEAD~1", "--against-budget", "1", "-q"]
    tested, said = _run(python, clone, "pytest", *arguments, *plant.arguments)
    code, judged = _run(python, clone, "embedopt", "gate")
    assert (code, tested) == (plant.code, 1 if plant.code else 0), said + judged
    assert [words for words in plant.words if words not in said] == [], said


_SLOWER = """        import time
        slow = 0.05 if self.name == "torch-fp32" else 0.001 * len(texts) if batch_size is None else 0.0
        time.sleep(slow)
"""
_CHECKED = "        checked = self._checked(texts, batch_size)\n        if not checked"
BATCHER, _SUBMIT = "embedopt/serving/batcher.py", "        return self._scheduler.submit("
_TOKENIZER = "        from tokenizers import Tokenizer\n"
_SECONDS = "        own_s = seconds = clock() - started_s\n"
_SLOW = [
    (ENCODER, _CHECKED, f"{_SLOWER}{_CHECKED}"),
    (BATCHER, _SUBMIT, f"        import time\n        time.sleep(0.05)\n{_SUBMIT}"),
    (PIPELINE, _TOKENIZER, f'{_TOKENIZER}        cls.more = b"x" * 128_000_000\n'),
    (PIPELINE, _RETURN, f'self.__dict__.setdefault("kept", []).append(b"x" * 40_000)\n        {_RETURN}'),
    (WORKER, _SECONDS, f"{_SECONDS}        seconds /= 1 + 2 * ('8' in backend)\n"),
]


def test_what_is_slower_or_holds_more_memory_regresses_in_its_own_cell(clone: Path, tmp_path: Path) -> None:
    """Reference, many texts, batcher, memory at open and over calls; and a worker that divides its times."""
    _plant(clone, Plant(_SLOW, 1, []))
    git(clone, "worktree", "add", "-q", str(tmp_path / "base"), "HEAD~1")
    cells = [
        Cell(backend="torch-fp32", batch_size=2),
        *(Cell(backend="onnx-fp32", batch_size=0, metric=metric) for metric in _FIGURES),
        Cell(backend="onnx-int8", batch_size=64),
    ]
    measured = [
        _one_pair(tmp_path / "base", clone, list(own)) for _, own in groupby(cells, lambda cell: cell.backend)
    ]
    pairs = {cell: pair for known in measured for cell, pair in known.items()}
    assert [str(cell) for cell, pair in pairs.items() if pair.disagreement] == ["onnx-int8 batch 64"]
    judged = judge_cells([_as_often(cell, pair.log_ratio) for cell, pair in pairs.items()], GateSettings())
    assert {subject(verdict): verdict.outcome for verdict in judged if verdict.backend != "onnx-int8"} == {
        str(cell): "regressed" for cell in cells[:-1]
    }
    few = [PairedCell(cell=cell, log_ratios=(pairs[cell].log_ratio,) * 3) for cell in cells[1:-1]]
    assert [verdict.fails_check for verdict in judge_cells(few, GateSettings())] == [True] * len(_FIGURES)


_FIGURES: tuple[PairedMetric, ...] = ("texts_per_s", "served_p50_ms", "peak_rss_bytes", "grown_rss_bytes")


def _one_pair(base: Path, head: Path, cells: Sequence[Cell]) -> dict[Cell, ProcessPair]:
    work = Work(texts=tuple(_TEXTS), model=str(head / "model"), cell_s=0.0)
    sides = [Checkout(name=folder.name, root=folder, python=sys.executable) for folder in (base, head)]
    with WorkerClient(sides[0]) as builder:  # what builds an artifact holds more memory than what opens it
        builder.ask("load", **work.opening(cells[0].backend, of_base=True))
    with live_pair(0, lambda: WorkerClient(sides[0]), lambda: WorkerClient(sides[1])) as pair:
        return {cell: measured for (cell, _), measured in measure_pair(pair, cells, work)}


def _as_often(cell: Cell, log_ratio: float) -> PairedCell:
    """Evidence of as many pairs as the rule wants, all but alike."""
    log_ratios = tuple(log_ratio + 0.001 * number for number in (-1, 0, 1, -1, 0, 1))
    return PairedCell(cell=cell, log_ratios=log_ratios, fresh=log_ratios)
