"""The command init sets a repository up, overwrites nothing, and says what it did."""

import json
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

from embedopt.cli.app import main
from embedopt.inference.targets import read_targets
from tests.repositories import git

PROJECT = '[project]\nname = "shop"\nversion = "1"\n'
CALL = ("--call", "shop.embedding:embed")
REQUIRED = "required in GitHub's branch protection"
EMBEDOPT = ("--embedopt", f"team/embedopt@{'a' * 40}")


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository that embeds, with a pyproject.toml alone."""
    git(tmp_path, "init", "-q")
    (tmp_path / "pyproject.toml").write_text(PROJECT, encoding="utf8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def _table(project: Path) -> dict[str, object]:
    table: dict[str, object] = tomllib.loads((project / "pyproject.toml").read_text("utf8"))["tool"][
        "embedopt"
    ]
    return table


def _contents(project: Path) -> dict[str, bytes]:
    files = [path for path in project.rglob("*") if path.is_file() and ".git" not in path.parts]
    return {path.relative_to(project).as_posix(): path.read_bytes() for path in files}


def test_it_writes_three_files_and_says_what_comes_next(
    shop: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (shop / "src").mkdir()
    (shop / "uv.lock").touch()
    assert main(["init", *CALL]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "benchmarks/pytest.ini: written",
        "pyproject.toml: added [tool.embedopt]",
        ".github/workflows/embedopt.yml: written",
        f'to block a merge: make the check "verdict of embedopt" {REQUIRED}',
        "next: make the environment, commit, and pytest benchmarks/ --backends shop --benchmark-compare",
    ]
    assert (shop / "pyproject.toml").read_text("utf8") == PROJECT + (
        '\n[tool.embedopt]\ninstall = "uv sync --frozen"\nsource = "src"\n\n[tool.embedopt.targets.shop]\n'
        'call = "shop.embedding:embed"\npython = ".venv/bin/python"\n'
    )
    assert list(read_targets(shop)) == ["shop"]


def test_a_second_time_it_does_nothing_and_says_so(shop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (shop / "products.txt").write_text("pan\nknife\n", encoding="utf8")
    assert main(["init", *CALL, "--texts", "products.txt"]) == 0
    before = _contents(shop)
    capsys.readouterr()
    assert main(["init", *CALL, "--texts", "products.txt", *EMBEDOPT]) == 0
    assert _contents(shop) == before
    *lines, check, _ = capsys.readouterr().out.splitlines()
    assert (
        check == f'to block a merge: make the check "verdict of embedopt" {REQUIRED}'
    )  # of the file that is there
    assert lines == [
        f"{name} is there, and stays as it is"
        for name in (
            *("benchmarks/pytest.ini", "benchmarks/corpus/texts.jsonl"),
            *("pyproject.toml", ".github/workflows/embedopt.yml"),
        )
    ]
    texts = (shop / "benchmarks" / "corpus" / "texts.jsonl").read_text("utf8")
    assert [json.loads(line) for line in texts.splitlines()] == [{"text": "pan"}, {"text": "knife"}]


@pytest.mark.parametrize(
    ("files", "install", "python"),
    [
        (["uv.lock", "requirements.txt"], "uv sync --frozen", ".venv/bin/python"),
        (["../uv.lock"], "uv sync --frozen", "../.venv/bin/python"),
        (
            ["poetry.lock"],
            "POETRY_VIRTUALENVS_IN_PROJECT=true poetry install --no-interaction",
            ".venv/bin/python",
        ),
        (
            ["requirements.txt"],
            "python3 -m venv .venv && .venv/bin/python -m pip install -r requirements.txt",
            ".venv/bin/python",
        ),
        ([], "python3 -m venv .venv && .venv/bin/python -m pip install -e .", ".venv/bin/python"),
    ],
)
def test_the_environment_is_made_by_what_describes_it(
    shop: Path, files: list[str], install: str, python: str
) -> None:
    """In a folder of a monorepo, whose workflow stands at the top."""
    project = shop / "search"
    project.mkdir()
    (project / "pyproject.toml").write_text(PROJECT, encoding="utf8")
    for name in files:
        (project / name).touch()
    assert main(["init", *CALL, *EMBEDOPT, str(project)]) == 0
    assert _table(project)["install"] == install
    assert read_targets(project)["shop"].python == python
    workflow = yaml.safe_load((shop / ".github" / "workflows" / "embedopt-search.yml").read_text("utf8"))
    [job] = workflow["jobs"].values()
    assert job["uses"] == f"team/embedopt/.github/workflows/gate.yml@{'a' * 40}"
    assert job["with"]["folder"] == "search"
    assert job["with"]["install"].endswith(install)
    assert job["with"]["backends"] == "shop"


def test_without_a_target_the_table_has_an_example(shop: Path) -> None:
    (shop / "pyproject.toml").unlink()
    assert main(["init"]) == 0
    text = (shop / "pyproject.toml").read_text("utf8")
    assert text.startswith("[tool.embedopt]\n\n# Declare what embeds")
    assert tomllib.loads(text.replace("# [", "[").replace("# call", "call"))["tool"]["embedopt"]["targets"]
    assert read_targets(shop) == {}


def test_a_target_is_added_to_the_table_of_an_earlier_time(
    shop: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["init"]) == 0
    before = (shop / "pyproject.toml").read_text("utf8")
    capsys.readouterr()
    assert main(["init", "--call", "gr\u00f6\u00dfe:embed", "--name", "gr\u00f6\u00dfe.v2"]) == 0
    assert capsys.readouterr().out.splitlines()[1] == (
        'pyproject.toml: added [tool.embedopt.targets."gr\u00f6\u00dfe.v2"]'
    )
    assert (shop / "pyproject.toml").read_text("utf8") == before + (
        '\n[tool.embedopt.targets."gr\u00f6\u00dfe.v2"]\ncall = "gr\u00f6\u00dfe:embed"\n'
        'python = ".venv/bin/python"\n'
    )
    assert list(read_targets(shop)) == ["gr\u00f6\u00dfe.v2"]


def test_an_endpoint_is_declared_with_its_command(shop: Path) -> None:
    start, url = "uvicorn shop.api:app --port {port}", "http://127.0.0.1:{port}/v1/embeddings"
    assert main(["init", "--start", start, "--url", url, "--name", "search", "--install", "make"]) == 0
    target = read_targets(shop)["search"]
    assert (target.start, target.url, target.python) == (start, url, ".venv/bin/python")
    assert _table(shop)["install"] == "make"


@pytest.mark.parametrize(
    ("before", "arguments", "message"),
    [
        (PROJECT, ["--call", "shop"], "call is 'shop'; wanted module:name, such as shop.embedding:embed"),
        (
            PROJECT,
            ["--url", "http://a/{port}"],
            "has start or {port} in its url; wanted both, or an url alone",
        ),
        (PROJECT, ["--texts", "none.txt"], "corpus none.txt: no such file"),
        (
            PROJECT,
            ["--embedopt", "team/embedopt@main"],
            "'team/embedopt@main'; wanted OWNER/NAME@COMMIT, with all 40 digits of a commit",
        ),
        ("tool = {}\n", [*CALL], "pyproject.toml can't be added to ("),
    ],
)
def test_what_cant_be_done_is_refused_before_anything_is_written(
    shop: Path, capsys: pytest.CaptureFixture[str], before: str, arguments: list[str], message: str
) -> None:
    (shop / "pyproject.toml").write_text(before, encoding="utf8")
    contents = _contents(shop)
    assert main(["init", *arguments]) == 2
    assert message in capsys.readouterr().err.replace("\n", " ")
    assert _contents(shop) == contents


def test_line_ends_stay_and_a_missing_one_is_added(shop: Path) -> None:
    before = PROJECT.replace("\n", "\r\n").rstrip().encode()
    (shop / "pyproject.toml").write_bytes(before)
    assert main(["init", *CALL]) == 0
    after = (shop / "pyproject.toml").read_bytes()
    assert after.startswith(before + b"\r\n\r\n[tool.embedopt]\r\n")
    assert after.count(b"\n") == after.count(b"\r\n")


def test_where_gitlab_runs_the_document_is_named(shop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (shop / ".gitlab-ci.yml").touch()
    assert main(["init", *CALL]) == 0
    assert capsys.readouterr().out.splitlines()[-3:-1] == [
        ".gitlab-ci.yml stays as it is: docs/how-to-gate-in-ci.md of embedopt has the job for it",
        'to block a merge: set "Pipelines must succeed" in the project\'s settings for merge requests',
    ]
    assert not (shop / ".github").exists()


@pytest.mark.parametrize("kind", [(), EMBEDOPT])
@pytest.mark.parametrize("folder", [".", "search"])
def test_the_check_is_named_as_github_names_the_job(
    shop: Path, capsys: pytest.CaptureFixture[str], kind: tuple[str, ...], folder: str
) -> None:
    """A job of a workflow that is called stands behind the name of the job that calls it."""
    (shop / folder).mkdir(exist_ok=True)
    assert main(["init", *CALL, *kind, folder]) == 0
    [workflow] = (shop / ".github" / "workflows").iterdir()
    [job] = yaml.safe_load(workflow.read_text("utf8"))["jobs"].values()
    name = job["name"]
    if kind:
        called = (Path(__file__).parents[2] / ".github/workflows/gate.yml").read_text("utf8")
        [(of_id, called_job)] = yaml.safe_load(called)["jobs"].items()
        name = f"{name} / {called_job.get('name', of_id)}"
    assert f'to block a merge: make the check "{name}" {REQUIRED}' in capsys.readouterr().out.splitlines()


def test_a_workflow_of_others_has_no_check_of_ours(shop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = shop / ".github" / "workflows" / "embedopt.yml"
    file.parent.mkdir(parents=True)
    file.write_text("on: push\n", encoding="utf8")
    assert main(["init", *CALL]) == 0
    assert "to block a merge" not in capsys.readouterr().out


@pytest.mark.parametrize("kind", [(), EMBEDOPT])
def test_the_workflow_is_short_and_an_auditor_has_nothing_to_say(shop: Path, kind: tuple[str, ...]) -> None:
    assert main(["init", *CALL, *kind]) == 0
    workflow = shop / ".github" / "workflows" / "embedopt.yml"
    assert len(workflow.read_text("utf8").splitlines()) <= 40
    assert max(map(len, workflow.read_text("utf8").splitlines())) <= 120
    assert "<" not in workflow.read_text("utf8")
    programs = Path(sys.executable).parent
    for name, *arguments in (
        ["check-jsonschema", "--builtin-schema", "vendor.github-workflows"],
        ["zizmor", "--offline", "--persona=pedantic", "--no-progress"],
    ):
        command = [str(programs / name), *arguments, str(workflow)]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr


def test_the_workflow_judges_no_run_but_its_own(shop: Path) -> None:
    """What a team has committed in .benchmarks/ is no answer, and others may have our short names."""
    assert main(["init", *CALL]) == 0
    [job] = yaml.safe_load((shop / ".github" / "workflows" / "embedopt.yml").read_text("utf8"))[
        "jobs"
    ].values()
    measure, report, gate = (step["run"] for step in job["steps"][-3:])
    assert measure.endswith(
        '--embedopt-backends shop --embedopt-against "$(git rev-parse HEAD^1)" '
        '--benchmark-storage "$RUNNER_TEMP/runs"'
    )
    assert all(' --history "$RUNNER_TEMP/runs"' in line for line in (report, gate))
    assert job["name"] == "verdict of embedopt"
