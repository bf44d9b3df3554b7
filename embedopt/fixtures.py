"""The fixtures of the benchmarks, in runs that collect from ``benchmarks/``."""

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import pytest

from embedopt.errors import EmbedoptError, MissingPackageError, UnsupportedModelError
from embedopt.inference.encoder import Encoder
from embedopt.judge.gate.pairs_rule import plan_pairs
from embedopt.judge.gate.settings import GateSettings, settings_in_force
from embedopt.judge.gate.verdict import Verdict
from embedopt.judge.gate.whole_runs import judge_gate_run
from embedopt.measure.findings import Findings
from embedopt.measure.pairs.gate_run import measure_gate_run
from embedopt.measure.session import Session
from embedopt.sampling import PlanPairs

# What the plugin hands to the fixtures, and the verdicts that it shows at the end.
SESSION = pytest.StashKey[Session]()
FINDINGS = pytest.StashKey[Findings]()
SETTINGS = pytest.StashKey[GateSettings]()
VERDICTS = pytest.StashKey[tuple[Verdict, ...]]()


@pytest.fixture(scope="session")
def session(request: pytest.FixtureRequest) -> Iterator[Session]:
    """What the benchmarks work with: options, texts, weights, artifacts and encoders."""
    opened = request.config.stash[SESSION]
    yield opened
    opened.close()


@pytest.fixture(scope="session")
def findings(request: pytest.FixtureRequest) -> Findings:
    """What the benchmarks of this run measured."""
    return request.config.stash[FINDINGS]


@pytest.fixture(scope="session")
def encoder(request: pytest.FixtureRequest, session: Session) -> Iterator[Encoder]:
    """One backend, opened once in a run."""
    try:
        opened = session.open(request.param)
    except (MissingPackageError, UnsupportedModelError) as error:
        pytest.skip(str(error))
    except EmbedoptError as error:
        pytest.fail(str(error), pytrace=False)
    yield opened
    session.release(opened)


@pytest.fixture(scope="session")
def verdicts(request: pytest.FixtureRequest, session: Session, findings: Findings) -> tuple[Verdict, ...]:
    """The gate's verdicts on all cells, which are measured for the first test that asks for them."""
    settings, plan = request.config.stash[SETTINGS], session.options.against
    assert plan is not None
    try:
        plan_pairs_by = partial(_plan_pairs_by, threshold=plan.threshold)
        gate_run = measure_gate_run(plan, session.gate_work, plan_pairs_by, session.on_step)
    except EmbedoptError as error:
        pytest.fail(str(error), pytrace=False)
    findings.gate_run = gate_run
    decided = request.config.stash[VERDICTS] = judge_gate_run(gate_run, settings)
    return decided


def _plan_pairs_by(rules: Mapping[str, Any], threshold: float | None) -> PlanPairs:
    settings = settings_in_force(rules, "the base's pyproject.toml", threshold)
    return partial(plan_pairs, settings=settings)
