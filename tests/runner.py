"""As much of GitHub's runner as our workflows take: the commands are real, the actions are played."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from tests.measure.test_base import git

WORKFLOWS = Path(__file__).parents[1] / ".github" / "workflows"
_EXPRESSION = re.compile(r"\$\{\{\s*(.*?)\s*\}\}")


def workflow(name: str) -> dict[str, Any]:
    """Read a workflow; YAML takes its key ``on`` for a truth value."""
    found: dict[str, Any] = yaml.safe_load((WORKFLOWS / name).read_text(encoding="utf8"))
    return found


@dataclass
class Runner:
    """Plays the jobs of one run of a workflow, each in a checkout of its own.

    Attributes:
        name: file of the workflow.
        folder: to work in.
        remote: bare repository.
        ref: that is checked out.
        values: of expressions, by their text.
        env: of all steps.
    """

    name: str
    folder: Path
    remote: Path
    ref: str
    values: dict[str, str]
    env: Mapping[str, str]
    artifacts: Path = field(init=False)
    failed: list[str] = field(default_factory=list)
    said: dict[str, str] = field(default_factory=dict)
    deployed: Path | None = None

    def __post_init__(self) -> None:
        self.artifacts = self.folder / "artifacts"
        self.artifacts.mkdir(parents=True)

    def play(self, job: str, *, between: Mapping[str, Callable[[], None]] | None = None) -> bool:
        """Play a job; return whether it succeeded.

        Args:
            job: its key.
            between: called before the step of that name.
        """
        found, place = workflow(self.name), self.folder / job
        place.mkdir()
        self.failed.clear()
        output = self.folder / f"{job}.output"
        output.touch()
        (self.folder / "temp").mkdir(exist_ok=True)
        base = {
            **os.environ,
            **self._filled(found.get("env", {})),
            **self.env,
            "GITHUB_OUTPUT": str(output),
            "GITHUB_STEP_SUMMARY": str(self.folder / f"{job}.summary.md"),
            "RUNNER_TEMP": str(self.folder / "temp"),
        }
        for step in found["jobs"][job]["steps"]:
            name = step.get("name") or step.get("run") or step["uses"].partition("@")[0]
            if not self._wanted(step.get("if", "success()")):
                continue
            (between or {}).get(name, lambda: None)()
            went_well = self._use(step, place) if "uses" in step else self._run(step, name, place, base)
            if not went_well and not step.get("continue-on-error"):
                self.failed.append(name)
            for line in output.read_text(encoding="utf8").splitlines():
                key, _, value = line.partition("=")
                self.values[f"needs.{job}.outputs.{key}"] = value
        self.values[f"needs.{job}.result"] = "failure" if self.failed else "success"
        return not self.failed

    def _wanted(self, condition: str) -> bool:
        text = _EXPRESSION.sub(r"\1", condition)
        if text == "!cancelled()":
            return True
        if self.failed:
            return False
        if text == "success()":
            return True
        left, _, right = text.partition(" == ")
        assert right, f"a condition that this runner does not know: {condition}"
        return self.values.get(left, "") == right.strip("'")

    def _filled(self, values: Mapping[str, Any]) -> dict[str, str]:
        return {key: _EXPRESSION.sub(self._value, str(value)) for key, value in values.items()}

    def _value(self, match: re.Match[str]) -> str:
        return self.values[match[1]]

    def _run(self, step: Mapping[str, Any], name: str, place: Path, base: Mapping[str, str]) -> bool:
        assert "${{" not in step["run"], "an expression in a command can be broken out of"
        env = {**base, **self._filled(step.get("env", {})), **self.env}
        argv = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", step["run"]]
        done = subprocess.run(argv, cwd=place, env=env, capture_output=True, text=True)
        self.said[name] = done.stdout + done.stderr
        return done.returncode == 0

    def _use(self, step: Mapping[str, Any], place: Path) -> bool:
        given = self._filled(
            {key: value for key, value in step.get("with", {}).items() if key not in ("key", "github-token")}
        )
        action = step["uses"].partition("@")[0]
        return _ACTIONS[action](self, given, place)

    def checkout(self, given: Mapping[str, str], place: Path) -> bool:
        """Clone the remote at the ref."""
        git(place, "clone", "-q", str(self.remote), ".")
        git(place, "checkout", "-q", given.get("ref", self.ref))
        return True

    def nothing(self, given: Mapping[str, str], place: Path) -> bool:
        """Python is there already."""
        return True

    def cache(self, given: Mapping[str, str], place: Path) -> bool:
        """Bring an environment as a cache does: the one that the tests run in."""
        python = place / given["path"] / "bin" / "python"
        python.parent.mkdir(parents=True)
        python.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n', encoding="utf8")
        python.chmod(0o755)
        return True

    def upload(self, given: Mapping[str, str], place: Path) -> bool:
        """Keep an artifact; without files there is none."""
        if (place / given["path"]).is_dir():
            shutil.copytree(place / given["path"], self.artifacts / given["name"])
        return (place / given["path"]).is_dir() or given.get("if-no-files-found") == "warn"

    def download(self, given: Mapping[str, str], place: Path) -> bool:
        """Bring artifacts: one into the folder, or each of a pattern into one of its own."""
        found = sorted(self.artifacts.glob(given.get("name", given.get("pattern", "*"))))
        for artifact in found:
            target = place / given["path"]
            shutil.copytree(
                artifact, target if "name" in given else target / artifact.name, dirs_exist_ok=True
            )
        return bool(found) or "name" not in given

    def upload_page(self, given: Mapping[str, str], place: Path) -> bool:
        """Keep the page that is deployed."""
        self.deployed = place / given["path"]
        return True


_ACTIONS: dict[str, Callable[[Runner, Mapping[str, str], Path], bool]] = {
    "actions/checkout": Runner.checkout,
    "actions/setup-python": Runner.nothing,
    "actions/cache": Runner.cache,
    "actions/cache/restore": Runner.cache,
    "actions/upload-artifact": Runner.upload,
    "actions/download-artifact": Runner.download,
    "actions/upload-pages-artifact": Runner.upload_page,
    "actions/deploy-pages": Runner.nothing,
}
