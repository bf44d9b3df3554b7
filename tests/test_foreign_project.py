"""A gate run in a repository that holds no embedopt: the installed one measures both of its commits."""

from collections.abc import Callable
from pathlib import Path
from shutil import copytree

import pytest

from embedopt.evidence import Cell, GateRun, PairsWanted
from embedopt.measure.pairs.gate_run import GatePlan, measure_gate_run
from embedopt.measure.pairs.own_inputs import BaseInputs
from embedopt.measure.pairs.process_pair import Work
from tests.repositories import git

CELL = Cell(backend="torch-fp32", batch_size=2)


@pytest.fixture
def shop(tmp_path: Path, tiny_model: Callable[..., Path]) -> Path:
    """A folder of a repository with a model of its own, whose first commit holds no embedopt."""
    folder = tmp_path / "repository" / "shop"
    folder.mkdir(parents=True)
    git(folder.parent, "init", "-q")
    (folder / "pyproject.toml").write_text('[project]\nname = "shop"\n', encoding="utf8")
    copytree(tiny_model(), folder / "models" / "shop")
    _commit(folder, "without embedopt")
    return folder


def _commit(folder: Path, message: str) -> None:
    git(folder, "add", ".")
    git(folder, "commit", "-qm", message)


def _adopt(shop: Path, install: str = "") -> None:
    with (shop / "pyproject.toml").open("a", encoding="utf8") as file:
        file.write(
            f'[tool.pytest.ini_options]\naddopts = "--model models/shop"\n[tool.embedopt]\n{install}\n'
        )
    _commit(shop, "embedopt")


def _gate_run(shop: Path, steps: list[str], model: str = "models/shop") -> GateRun:
    plan = GatePlan(
        ref="HEAD",
        head=shop,
        backends=(CELL.backend,),
        batch_sizes=(CELL.batch_size,),
        base_inputs=BaseInputs(model="models/shop", is_model_given=False),
        budget_s=600.0,
        invariance={"invariance_texts": 2, "invariance_rounds": 1},
    )
    cache = shop.parents[1] / "cache"
    work = Work(texts=("a", "night", "nurse"), model=str(shop / model), cache_dir=str(cache), cell_s=0)
    wanted = [[PairsWanted(cell=CELL, pairs=1)], []]
    return measure_gate_run(plan, work, lambda _: lambda _: wanted.pop(0), steps.append)


def test_the_change_that_adopts_embedopt_is_measured_alone(shop: Path) -> None:
    _adopt(shop)
    git(shop, "reset", "-q", "--soft", "HEAD^")
    steps: list[str] = []
    gate_run = _gate_run(shop, steps)
    assert (gate_run.added, gate_run.cells) == (("torch-fp32",), ())
    assert steps == ["HEAD has no embedopt: there is nothing to compare with"]


def test_base_and_head_each_use_their_own_model_and_the_base_gets_an_environment(
    shop: Path, tiny_model: Callable[..., Path]
) -> None:
    _adopt(shop, 'install = "mkdir environment"')
    copytree(tiny_model("cls"), shop / "models" / "other")
    pyproject = shop / "pyproject.toml"
    pyproject.write_text(pyproject.read_text("utf8").replace("models/shop", "models/other"), encoding="utf8")
    steps: list[str] = []
    gate_run = _gate_run(shop, steps, "models/other")
    # Calls of a few milliseconds may seem to disagree between the two clocks on a busy machine.
    disagreeing = [reason for reason in gate_run.not_comparable if "where its client waits" in reason.why]
    assert gate_run.not_comparable == tuple(disagreeing)
    assert steps[0] == "installing the base: mkdir environment"
    counts = {known.cell.metric: len(known.log_ratios) for known in gate_run.cells}
    counts |= {reason.cell.metric: 1 for reason in disagreeing if reason.cell}
    assert (counts["latency"], counts["load_s"]) == (1, 1)
    [drift] = gate_run.drift
    assert drift.similarity_min is not None
    assert drift.similarity_min < 0.995
