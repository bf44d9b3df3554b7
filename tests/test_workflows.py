"""The workflows: valid, safe, and run command by command on a clone with a bare remote."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from embedopt.judge.history.saved_runs import read_history
from tests.ci.github_api import REPOSITORY, serving, workflow_run
from tests.repositories import git
from tests.runner import WORKFLOWS, Runner, workflow
from tests.shards import make_shard

ROOT = Path(__file__).parents[1]
NAMES = sorted(file.name for file in WORKFLOWS.glob("*.yml"))
_TEXTS = [
    f"{job} for {task} on a {shift} shift in the {where} of a town by the sea"
    for job in ("welder", "nurse", "driver", "baker")
    for task in ("repairs", "care", "transport")
    for shift in ("day", "night")
    for where in ("north", "south")
]

Play = Callable[..., Runner]


def test_these_are_all_workflows() -> None:
    assert NAMES == ["benchmark.yml", "ci.yml", "comment.yml", "gate.yml", "history.yml"]


@pytest.mark.parametrize(
    "command",
    [
        ["zizmor", "--offline", "--persona=pedantic", "--no-progress"],
        ["check-jsonschema", "--builtin-schema", "vendor.github-workflows"],
    ],
    ids=["zizmor", "schema"],
)
def test_the_linters_accept_the_workflows(command: list[str]) -> None:
    program = Path(sys.executable).parent / command[0]
    files = [str(WORKFLOWS / name) for name in NAMES]
    done = subprocess.run([str(program), *command[1:], *files], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("name", NAMES)
def test_every_action_is_pinned_to_a_commit(name: str) -> None:
    used = re.findall(r"uses: ([^$\s]\S+)(.*)", (WORKFLOWS / name).read_text(encoding="utf8"))
    assert used
    for action, comment in used:
        assert re.fullmatch(r"[\w/-]+@[0-9a-f]{40}", action)
        assert re.fullmatch(r" # v\d+\.\d+\.\d+", comment)


@pytest.mark.parametrize("name", NAMES)
def test_every_job_has_a_time_limit_and_a_token_that_reads_at_most_what_it_needs(name: str) -> None:
    content = workflow(name)
    assert content["permissions"] == {}
    assert "concurrency" in content
    writes = {
        key: value
        for job in content["jobs"].values()
        for key, value in job["permissions"].items()
        if value == "write"
    }
    allowed = {"comment.yml": {"pull-requests"}, "history.yml": {"contents", "pages", "id-token"}}
    assert set(writes) == allowed.get(name, set())
    assert all(job["timeout-minutes"] for job in content["jobs"].values())


def test_only_a_newer_commit_of_the_same_pull_request_cancels_checks() -> None:
    """A push to main has no pull request's number, and shares its group with no other run."""
    assert workflow("ci.yml")["concurrency"] == {
        "group": "ci-${{ github.event.pull_request.number || github.sha }}",
        "cancel-in-progress": True,
    }


_USED = {".ci/constraints", ".ci/environment"}


@pytest.mark.parametrize("name", ["benchmark.yml", "comment.yml"])
def test_the_head_of_a_workflow_to_copy_names_the_files_it_uses(name: str) -> None:
    head, _, rest = (WORKFLOWS / name).read_text(encoding="utf8").partition("\nname: ")
    assert set(re.findall(r"\.ci/\w+", head)) == set(re.findall(r"\.ci/\w+", rest)) == _USED


def test_workflows_that_run_a_pull_request_s_code_have_no_secret() -> None:
    for name in ("benchmark.yml", "ci.yml"):
        text = (WORKFLOWS / name).read_text(encoding="utf8")
        assert "pull_request_target" not in text
        assert "secrets." not in text
        assert "github.token" not in text


def test_the_workflow_that_comments_runs_no_code_of_the_pull_request() -> None:
    steps = workflow("comment.yml")["jobs"]["comment"]["steps"]
    [ref] = [step["with"]["ref"] for step in steps if step.get("uses", "").startswith("actions/checkout")]
    assert ref == "${{ github.event.repository.default_branch }}"
    assert "head_sha" not in (WORKFLOWS / "comment.yml").read_text(encoding="utf8")


# Builds the project as setuptools would, but without a network; fails where there is no file "version".
_BACKEND = """
from pathlib import Path
from zipfile import ZipFile

def build_wheel(folder, config_settings=None, metadata_directory=None):
    version = Path("version").read_text()
    info = f"embedopt-{version}.dist-info"
    with ZipFile(Path(folder, f"embedopt-{version}-py3-none-any.whl"), "w") as wheel:
        wheel.writestr("embedopt.py", "")
        wheel.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\\nName: embedopt\\nVersion: {version}\\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n")
        wheel.writestr(f"{info}/RECORD", "")
    return f"embedopt-{version}-py3-none-any.whl"
"""


def test_an_environment_is_made_whole_or_not_at_all(tmp_path: Path) -> None:
    """It is used again, and does not hold the project itself."""
    project, target = tmp_path / "project", tmp_path / "environment"
    project.mkdir()
    (project / "backend.py").write_text(_BACKEND, encoding="utf8")
    (project / "pyproject.toml").write_text(
        '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n', encoding="utf8"
    )
    env = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "PIP_NO_INDEX": "1"}

    def made() -> subprocess.CompletedProcess[str]:
        argv = [str(ROOT / ".ci" / "environment"), str(target), str(project)]
        return subprocess.run(argv, env=env, capture_output=True, text=True)

    failed = made()
    assert failed.returncode != 0
    assert "No such file or directory: 'version'" in failed.stderr
    assert not target.exists()

    (project / "version").write_text("1.0", encoding="utf8")
    assert made().returncode == 0
    assert not list(target.glob("lib/*/site-packages/embedopt*"))
    assert made().stdout == f"{target} is there already\n"


def test_a_browser_and_an_emulator_are_installed_unless_there_are_those_that_the_tests_open() -> None:
    installed = re.findall(r"command -v ([\w-]+)", (ROOT / ".ci" / "run").read_text(encoding="utf8"))
    files = ("report/test_page.py", "inference/artifacts/test_static_int8.py")
    opened = [(ROOT / "tests" / file).read_text(encoding="utf8") for file in files]
    assert installed == re.findall(r'shutil\.which\("(.*)"\)', "".join(opened))


@pytest.fixture(scope="module")
def remote(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A team's repository with branches: main has the suite and our workflows, copied into it."""
    folder = tmp_path_factory.mktemp("team")
    work, bare = folder / "work", folder / "remote.git"
    git(folder, "init", "-q", "--bare", str(bare))
    shutil.copytree(
        ROOT,
        work,
        ignore=shutil.ignore_patterns(
            ".git",
            ".*cache*",
            ".benchmarks",
            "build",
            "__pycache__",
            "*.egg-info",
            ".github",
            ".hypothesis",
            ".venv",
        ),
    )
    git(work, "init", "-q")
    git(work, "add", ".")
    git(work, "commit", "-qm", "The suite")
    (work / ".github" / "workflows").mkdir(parents=True)
    for name in ("benchmark.yml", "comment.yml", "history.yml"):
        shutil.copy(WORKFLOWS / name, work / ".github" / "workflows")
    git(work, "add", ".")
    git(work, "commit", "-qm", "Gate pull requests")
    git(work, "branch", "-M", "main")
    _branch(work, "words", "README.md", "embedopt", "Embedopt")
    short = "        return embeddings if self.name == 'onnx-fp32' else np.round(embeddings, 1)\n"
    _branch(work, "worse", "embedopt/inference/pipeline.py", "        return embeddings\n", short)
    # What would end each of its runs in green, if it judged itself.
    lenient = (
        "embedopt/judge/gate/verdict.py",
        "in checks.items() if applies",
        "in checks.items() if not code",
    )
    _branch(work, "lenient", *lenient, start="worse")
    option = '"--head-python", {"metavar"'
    _branch(work, "older", "embedopt/measure/declared_options.py", option, '"--of-head", {"metavar"')
    _branch(work, "broken", "pytest.ini", "", "[pytest]\naddopts = --against-budget many\n")
    _branch(work, "strict", "pytest.ini", "", "[pytest]\naddopts = --min-cosine 1\n")
    _branch(work, "lowered", "pytest.ini", "cosine 1", "cosine -1", start="strict")
    _branch(work, "newer", ".ci/constraints.txt", "numpy==2.4.6", "numpy==2.4.7", start="broken")
    git(work, "checkout", "-q", "-b", "merged", "strict")
    git(work, "merge", "-q", "--no-ff", "-m", "Merge", "words")
    git(work, "push", "-q", str(bare), "--all")
    git(bare, "symbolic-ref", "HEAD", "refs/heads/main")
    return bare


def _branch(work: Path, name: str, file: str, old: str, new: str, start: str = "main") -> None:
    git(work, "checkout", "-q", "-b", name, start)
    text = (work / file).read_text(encoding="utf8") if (work / file).exists() else ""
    assert old in text
    (work / file).write_text(text.replace(old, new, 1), encoding="utf8")
    git(work, "add", ".")
    git(work, "commit", "-qm", name)
    git(work, "checkout", "-q", "main")


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def play(tmp_path: Path, remote: Path, cache: Path, python: str, tiny_model: Callable[..., Path]) -> Play:
    """Make a run of a workflow with a small model and few texts; with the real ones it takes an hour.

    Its processes are forks that have imported torch on one thread: no cold start here is a real one.
    """
    corpus = tmp_path / "corpus.txt"
    corpus.write_text("\n".join(_TEXTS), encoding="utf8")
    small = (
        f"--model {tiny_model()} --corpus {corpus} --backends onnx-int8 --batch-sizes 1 --profile quick "
        "--against-budget 1 --min-cosine 0.9 -k 'latency or agreement or against'"
    )

    def start(name: str, ref: str = "main", number: str = "") -> Runner:
        folder = tmp_path / f"{name}{number}"
        values = {
            "github.event.pull_request.base.sha": git(remote, "rev-parse", "main"),
            "github.event.pull_request.head.sha": git(remote, "rev-parse", ref),
            "github.repository": REPOSITORY,
            "github.token": "token",
            "github.event.repository.default_branch": "main",
            "github.event.workflow_run.id": "1",
            "runner.os": "Linux",
            "runner.temp": str(folder / "temp"),
        }
        env = {
            "PYTEST_ADDOPTS": small,
            "EMBEDOPT_CACHE": str(cache),
            "EMBEDOPT_REMOTE": str(remote),
            "PYTHONPATH": "",
        }
        return Runner(name, folder, remote, ref, values, env, tmp_path / "caches", python)

    return start


def _measured(run: Runner, *shards: str) -> bool:
    """Run benchmark.yml up to the verdict; return whether the required check succeeds.

    Args:
        run: a run of benchmark.yml.
        shards: the lists of backends, one for each runner; those of benchmark.yml without any.
    """
    assert run.play("changes")
    if run.values["needs.changes.outputs.measured"] == "yes":
        lists = shards or workflow(run.name)["jobs"]["measure"]["strategy"]["matrix"]["backends"]
        succeeded = [
            run.play("measure", index, {"backends": backends}) for index, backends in enumerate(lists)
        ]
        run.values["needs.measure.result"] = "success" if all(succeeded) else "failure"
    return run.play("verdict")


def _commented(play: Play, run: Runner, sha: str, *numbers: int) -> list[str]:
    """Run comment.yml after a run of benchmark.yml; return the comments on pull request 7.

    Args:
        play: starts a run of a workflow.
        run: the run of benchmark.yml.
        sha: commit of the pull request.
        numbers: numbers in the event: 7, or none where the pull request comes from a fork.
    """
    with serving() as github:
        github.open(7, sha, "fork:topic")
        after = play("comment.yml")
        shutil.copytree(run.artifacts, after.artifacts, dirs_exist_ok=True)
        event = run.folder / "event.json"
        event.write_text(json.dumps(workflow_run(sha, *numbers)), encoding="utf8")
        after.env = {
            **after.env,
            "GITHUB_EVENT_PATH": str(event),
            "GITHUB_API_URL": github.url,
            "GITHUB_REPOSITORY": REPOSITORY,
        }
        assert after.play("comment"), after.printed
        return [comment["body"] for comment in github.comments]


def test_a_pull_request_that_changes_nothing_measured_passes_unmeasured(play: Play, remote: Path) -> None:
    run = play("benchmark.yml", "words")
    assert _measured(run)
    assert list(run.artifacts.iterdir()) == []


def test_the_base_is_the_one_that_the_checkout_merges_into(play: Play, remote: Path) -> None:
    """GitHub checks out a merge; the event's base may be older, and what main has got since no change."""
    run = play("benchmark.yml", "merged")
    run.values["github.event.pull_request.head.sha"] = git(remote, "rev-parse", "words")
    assert run.play("changes")
    assert run.values["needs.changes.outputs.base"] == git(remote, "rev-parse", "strict")
    assert run.values["needs.changes.outputs.measured"] == ""


def test_a_head_that_lowers_a_floor_is_held_against_the_base_s(play: Play, remote: Path) -> None:
    run = play("benchmark.yml", "lowered")
    run.values["github.event.pull_request.base.sha"] = git(remote, "rev-parse", "strict")
    options = run.env["PYTEST_ADDOPTS"].partition(" --min-cosine")[0]
    run.env = {**run.env, "PYTEST_ADDOPTS": f"{options} -k agreement"}
    assert run.play("changes")
    assert not run.play("measure", 0, {"backends": "onnx-int8"})
    figures = "The head's own figures, held against the base's floors"
    assert figures in run.failed
    assert re.search(r"onnx-int8: cosine_mean is 0\.\d+, wanted 1 or higher", run.printed[figures])


def test_a_base_that_can_t_be_started_leaves_the_judgement_to_nobody(play: Play, remote: Path) -> None:
    """A base from before --head does not know it; one whose --help fails may."""
    run = play("benchmark.yml", "lenient")
    run.values["github.event.pull_request.base.sha"] = git(remote, "rev-parse", "broken")
    run.env = {**run.env, "PYTEST_ADDOPTS": "--collect-only"}
    assert run.play("changes")
    assert not run.play("measure", 0, {"backends": "onnx-int8"})
    asked = "Which checkout measures and judges? The base's, unless it is from before --head"
    assert run.failed[0] == asked
    assert "Measure base and head in pairs" not in run.printed


@pytest.mark.parametrize(
    ("changes", "backends"),
    [({"embedopt": {"schema": 99}}, {"torch-fp32", "onnx-fp32"}), ({"commit_info": {"id": "d" * 40}}, set())],
    ids=["unreadable", "of another commit"],
)
def test_figures_are_left_out_only_where_they_can_t_be_read(
    play: Play, changes: dict[str, Any], backends: set[str]
) -> None:
    run = play("benchmark.yml")
    run.values |= {"needs.changes.result": "success", "needs.measure.result": "success"}
    run.values["needs.changes.outputs.measured"] = "yes"
    _, pairs = make_shard("pairs", "onnx-fp32")
    _, figures = make_shard("figures", "onnx-int8")
    for name, content in {"pairs": pairs, "figures": {**figures, **changes}}.items():
        file = run.artifacts / "shard-0" / name / "0001_run.json"
        file.parent.mkdir(parents=True)
        file.write_text(json.dumps(content), encoding="utf8")
    run.play("verdict")
    merged = run.artifacts / "benchmark" / "run.json"
    read = json.loads(merged.read_text(encoding="utf8"))["embedopt"]["backends"] if merged.exists() else {}
    assert set(read) == backends, run.printed
    [step] = [name for name in run.printed if name.startswith("Merge the runs")]
    assert (step in run.failed) == (not backends)
    assert re.search(r"^embedopt: ", run.printed[step], re.MULTILINE), run.printed[step]


@pytest.mark.parametrize(
    ("shards", "numbers"),
    [((), (7,)), (("torch-fp32,onnx-fp32", "onnx-int8"), ())],
    ids=["on one runner", "on two runners, from a fork"],
)
def test_a_pull_request_that_makes_embeddings_worse_fails_with_its_reason(
    play: Play, remote: Path, shards: tuple[str, ...], numbers: tuple[int, ...]
) -> None:
    """The check fails, though the change would let itself pass; summary, annotation and comment say why.

    What decides is the base's code, which knows nothing of the change of the rules.
    """
    run = play("benchmark.yml", "lenient")
    assert not _measured(run, *shards)
    assert run.failed == ["The gate"], "\n".join(run.printed.values())
    summary = (run.folder / "verdict.summary.md").read_text(encoding="utf8")
    assert summary.startswith("### embedopt: less accurate: "), run.printed
    assert re.search(
        r"^::error title=onnx-\w+ cosine_\w+::regressed, -", run.printed["Annotations"], re.MULTILINE
    )
    sha = git(remote, "rev-parse", "lenient")
    merged = json.loads((run.artifacts / "benchmark" / "run.json").read_text(encoding="utf8"))["embedopt"]
    assert set(merged["backends"]) == {"torch-fp32", "onnx-fp32", "onnx-int8"}
    assert "moved_rules" not in merged["against"]
    assert {*merged["accuracy"]} == {"torch-fp32", "onnx-fp32", "onnx-int8"}, "the figures of the head"
    assert merged["against"]["head"] == sha, "files that the workflow makes are no change of the head"
    [comment] = _commented(play, run, sha, *numbers)
    assert comment.splitlines()[1].startswith("### embedopt: less accurate: ")


def test_where_the_base_can_t_measure_a_head_the_change_judges_itself_and_that_is_said_first(
    play: Play, remote: Path
) -> None:
    """Whether it passes is then its own word: who reads the summary has to decide."""
    run = play("benchmark.yml", "lenient")
    run.values["github.event.pull_request.base.sha"] = git(remote, "rev-parse", "older")
    _measured(run)
    merged = json.loads((run.artifacts / "benchmark" / "run.json").read_text(encoding="utf8"))["embedopt"]
    [moved] = merged["against"]["moved_rules"]
    assert moved == "its own code measured and judged it (embedopt/judge/gate/verdict.py and 1 more)"


def test_a_pull_request_that_can_t_be_measured_fails_and_gets_a_comment(play: Play, remote: Path) -> None:
    run = play("benchmark.yml", "broken")
    assert not _measured(run)
    [comment] = _commented(play, run, git(remote, "rev-parse", "broken"), 7)
    assert (
        comment.splitlines()[1]
        == "### embedopt: no verdict: the job ended (<code>failure</code>) before it saved a run"
    )


def test_a_pull_request_that_fails_installs_once(play: Play) -> None:
    """Where the base judges, the runner of the verdict makes its environment in another folder, each time."""
    for ref, environments in {
        "broken": [".environment"],
        "newer": [".environment", ".base/.environment", ".environment"],
    }.items():
        first, second = play("benchmark.yml", ref, f"1{ref}"), play("benchmark.yml", ref, f"2{ref}")
        assert not _measured(first)
        assert not _measured(second)
        assert (first.installed, second.installed) == (environments, environments[2:])


def test_a_history_grows_by_one_run_each_time_and_a_race_loses_none(
    play: Play, remote: Path, tmp_path: Path
) -> None:
    """The first run makes the branch; then two race, and the second is pushed just before the first."""
    first = play("history.yml", number="1")
    assert first.play("measure"), first.printed
    assert _runs(remote, tmp_path / "1") == 1
    assert first.installed == [".environment"]

    slow, fast = play("history.yml", number="2"), play("history.yml", number="3")

    def overtake() -> None:
        assert fast.play("measure"), fast.printed

    assert slow.play("measure", between={"Append it to the branch": overtake}), slow.printed
    assert _runs(remote, tmp_path / "2") == 3
    assert slow.deployed is not None
    assert (slow.deployed / "index.html").read_text(encoding="utf8").startswith("<!doctype html>")
    assert "3 runs" in slow.printed["The page"]


def test_the_environment_of_main_is_that_of_pull_requests_and_of_the_comment(play: Play) -> None:
    """Only a job of main fills the caches that all others may read."""
    main, pull, comment = play("history.yml"), play("benchmark.yml", "broken"), play("comment.yml")
    main.env = {**main.env, "PYTEST_ADDOPTS": "--collect-only"}
    main.play("measure")
    _measured(pull)
    comment.play("comment")
    assert (main.installed, pull.installed, comment.installed) == ([".environment"], [], [])


def _runs(remote: Path, into: Path) -> int:
    git(into.parent, "clone", "-q", "--branch", "benchmark-history", str(remote), str(into))
    history = read_history(into)
    assert history.damaged == ()
    return len(history.runs)
