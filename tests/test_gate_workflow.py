"""The workflow that any repository calls, and the action that it uses, played on a clone of the shop."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from embedopt.ci.init import PYTEST_INI
from tests.repositories import git
from tests.runner import GITHUB, Runner, triggers, workflow
from tests.test_foreign_gate import EMBEDDING, SHOP, Shop

DOCUMENT = GITHUB.parent / "docs" / "how-to-gate-in-ci.md"
ACTION = GITHUB / "actions" / "gate" / "action.yml"
TEXTS = SHOP / "products.txt"
INSTALL = f"{sys.executable} make_environment.py"

Play = Callable[..., Runner]


def test_the_linters_accept_the_action() -> None:
    programs = Path(sys.executable).parent
    for command in (
        ["zizmor", "--offline", "--persona=pedantic", "--no-progress"],
        ["check-jsonschema", "--builtin-schema", "vendor.github-actions"],
    ):
        argv = [str(programs / command[0]), *command[1:], str(ACTION)]
        done = subprocess.run(argv, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr


def test_the_workflow_has_the_inputs_of_the_action_and_passes_each_on() -> None:
    action = yaml.safe_load(ACTION.read_text(encoding="utf8"))["inputs"]
    content = workflow("gate.yml")
    called = triggers(content)["workflow_call"]["inputs"]
    assert {name: str(value["default"]) for name, value in called.items()} == {
        name: value["default"] for name, value in action.items()
    }
    passed_on = content["jobs"]["verdict"]["steps"][-1]["with"]
    assert passed_on == {name: f"${{{{ inputs.{name} }}}}" for name in action}


def test_what_a_repository_calls_is_one_job_that_can_t_be_green_unmeasured() -> None:
    """No path filter, no failure that is passed over; only an install without a command is skipped."""
    content = workflow("gate.yml")
    assert (list(triggers(content)), triggers(content)["workflow_call"].keys()) == (
        ["workflow_call"],
        {"inputs"},
    )
    [job] = content["jobs"].values()
    steps = [*job["steps"], *yaml.safe_load(ACTION.read_text(encoding="utf8"))["runs"]["steps"]]
    conditions = {step.get("name", step.get("uses")): step["if"] for step in steps if "if" in step}
    uploads = [name for name in conditions if name.startswith("actions/upload-artifact@")]
    assert conditions == {
        "Environment of the head": "inputs.install != ''",
        **dict.fromkeys([*uploads, "Summary and annotations", "The gate"], "always()"),
    }
    assert {"if", "continue-on-error"}.isdisjoint(job)
    assert not any("continue-on-error" in step or "|| true" in step.get("run", "") for step in steps)


def test_the_verdict_of_benchmark_yml_is_a_job_that_is_never_skipped() -> None:
    """A skipped job is a success; its first step fails where the search for changes has."""
    job = workflow("benchmark.yml")["jobs"]["verdict"]
    assert job["if"] == "always()"
    first, *others = job["steps"]
    assert ("if" not in first, first["run"]) == (True, 'test "$RESULT" = success')
    assert {step["if"] for step in others} == {"needs.changes.outputs.measured == 'yes'"}


def _snippets() -> list[str]:
    """Return the files of the document: two for GitHub, the second a part of one, and one for GitLab."""
    return re.findall(r"```yaml\n(.*?)```", DOCUMENT.read_text(encoding="utf8"), re.DOTALL)


def test_the_files_of_the_document_are_valid_and_it_has_every_input(tmp_path: Path) -> None:
    caller, _, gitlab = _snippets()
    for name, content, schema in (
        ("caller.yml", caller, "vendor.github-workflows"),
        (".gitlab-ci.yml", gitlab, "vendor.gitlab-ci"),
    ):
        (tmp_path / name).write_text(content, encoding="utf8")
        program = Path(sys.executable).parent / "check-jsonschema"
        argv = [str(program), "--builtin-schema", schema, str(tmp_path / name)]
        done = subprocess.run(argv, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
    inputs = yaml.safe_load(ACTION.read_text(encoding="utf8"))["inputs"]
    assert re.findall(r"^\| `([\w-]+)` \|", DOCUMENT.read_text(encoding="utf8"), re.MULTILINE) == list(inputs)


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    """A clone in whose last commit the shop has adopted embedopt."""
    shop = Shop(tmp_path / "shop")
    (shop.folder / "benchmarks").mkdir()
    (shop.folder / "benchmarks" / "pytest.ini").write_text(PYTEST_INI, encoding="utf8")
    shop.append(".gitignore", ".venv/\n__pycache__/\n")
    shop.commit()
    return shop


@pytest.fixture
def play(tmp_path: Path, shop: Shop) -> Play:
    """Play the workflow on the last commit of the shop; the gate alone, and hardly any pair."""

    def start(install: str = INSTALL, base: str = "HEAD^", head: str = "HEAD") -> Runner:
        folder = tmp_path / "run"
        defaults = yaml.safe_load(ACTION.read_text(encoding="utf8"))["inputs"]
        values = {f"inputs.{name}": value["default"] for name, value in defaults.items()}
        sha = git(shop.folder, "rev-parse", base)
        values |= {
            "inputs.install": install,
            "inputs.backends": "shop",
            "inputs.budget": "1",
            "github.event.pull_request.base.sha || github.event.merge_group.base_sha": sha,
            "github.event.pull_request.head.sha || 'none'": git(shop.folder, "rev-parse", head),
            "runner.temp": str(folder / "temp"),
        }
        env = {
            "PYTEST_ADDOPTS": f"-k against --corpus={TEXTS} --batch-sizes 1",
            "EMBEDOPT_CACHE": str(tmp_path / "cache"),
            "PYTHONPATH": "",
        }
        return Runner("gate.yml", folder, shop.folder, "HEAD", values, env, tmp_path / "caches")

    return start


def test_a_change_of_a_repository_s_own_code_fails_with_its_reason(shop: Shop, play: Play) -> None:
    shop.change(EMBEDDING, "text.lower()", "text.upper()")
    shop.commit()
    run = play()
    assert not run.play("verdict")
    assert run.failed == ["Measure base and head", "The gate"], "\n".join(run.printed.values())
    summary = (run.folder / "verdict.summary.md").read_text(encoding="utf8")
    assert summary.startswith("### embedopt: vectors changed: "), run.printed
    assert "::error title=shop drift::vectors changed, -" in run.printed["Summary and annotations"]
    assert list((run.artifacts / "benchmark").rglob("*.json"))


def test_the_change_that_adopts_embedopt_is_green(shop: Shop, play: Play) -> None:
    run = play(base="HEAD~2")
    assert run.play("verdict"), "\n".join(run.printed.values())
    assert "shop: measured alone, new: nothing to compare it with" in run.printed["The gate"]


def test_a_head_whose_environment_can_t_be_made_is_not_green(play: Play) -> None:
    run = play("echo no such lock file; exit 3", base="HEAD")
    assert not run.play("verdict")
    assert run.failed[0] == "Environment of the head"
    assert "Measure base and head" not in run.printed


def test_the_base_is_the_one_that_the_checkout_merges_into(shop: Shop, play: Play) -> None:
    """GitHub checks out a merge; the event's base may be older."""
    git(shop.folder, "checkout", "-q", "-b", "topic", "HEAD^")
    git(shop.folder, "commit", "-q", "--allow-empty", "-m", "A change")
    git(shop.folder, "checkout", "-q", "-")
    git(shop.folder, "merge", "-q", "--no-ff", "-m", "Merge", "topic")
    run = play("exit 3", base="HEAD~2", head="topic")
    assert not run.play("verdict")
    assert run.values["steps.base.outputs.commit"] == git(shop.folder, "rev-parse", "HEAD^1")


def test_the_job_for_gitlab_fails_with_its_reason_in_a_test_report(shop: Shop, tmp_path: Path) -> None:
    """Its lines are played, but for those that install: the shop's own command does that."""
    shop.change(EMBEDDING, "text.lower()", "text.upper()")
    shop.commit()
    job = yaml.safe_load(_snippets()[2])["embedopt"]
    python = shop.folder / ".embedopt" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n', encoding="utf8")
    python.chmod(0o755)
    env = os.environ | {
        "PYTEST_ADDOPTS": f"-k against --corpus={TEXTS} --batch-sizes 1 --against-budget 1",
        "EMBEDOPT_CACHE": str(tmp_path / "cache"),
        "PYTHONPATH": "",
        "CI_MERGE_REQUEST_DIFF_BASE_SHA": git(shop.folder, "rev-parse", "HEAD^"),
    }
    _, exclude, _, measure, gate = job["script"]
    codes = {
        line: subprocess.run(line, shell=True, cwd=shop.folder, env=env, capture_output=True).returncode
        for line in (exclude, INSTALL, measure, gate, *job["after_script"])
    }
    assert list(codes.values()) == [0, 0, 1, 6, 0, 0]
    assert git(shop.folder, "status", "--porcelain") == ""
    reports = {name: shop.folder / file for name, file in job["artifacts"]["reports"].items()}
    assert '<failure message="vectors changed' in reports["junit"].read_text(encoding="utf8")
    [first, *_] = json.loads(reports["codequality"].read_text(encoding="utf8"))
    assert first["description"].startswith("shop drift: vectors changed, -")
