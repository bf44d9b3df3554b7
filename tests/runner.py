"""As much of GitHub's runner as our workflows take: the commands are real, the actions are played."""

import hashlib
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

from tests.repositories import git

WORKFLOWS = Path(__file__).parents[1] / ".github" / "workflows"
_EXPRESSION = re.compile(r"\$\{\{\s*(.*?)\s*\}\}")
_HASH = re.compile(r"hashFiles\('(.*)'\)")


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
        caches: folder that outlives the run.
        place: checkout of the job that is played.
        installed: environments that no cache brought.
    """

    name: str
    folder: Path
    remote: Path
    ref: str
    values: dict[str, str]
    env: Mapping[str, str]
    caches: Path
    artifacts: Path = field(init=False)
    failed: list[str] = field(default_factory=list)
    said: dict[str, str] = field(default_factory=dict)
    deployed: Path | None = None
    installed: list[str] = field(default_factory=list)
    place: Path = field(init=False)

    def __post_init__(self) -> None:
        self.artifacts = self.folder / "artifacts"
        self.artifacts.mkdir(parents=True)

    def play(
        self,
        job: str,
        index: int = 0,
        matrix: Mapping[str, str] | None = None,
        between: Mapping[str, Callable[[], None]] | None = None,
    ) -> bool:
        """Play a job; return whether it succeeded.

        Args:
            job: its key.
            index: which of its matrix.
            matrix: what that one is of.
            between: called before the step of that name.
        """
        found, self.place = workflow(self.name), self.folder / f"{job}{index or ''}"
        self.place.mkdir()
        self.failed.clear()
        self.values = {key: value for key, value in self.values.items() if not key.startswith("steps.")}
        self.values |= {"strategy.job-index": str(index)}
        self.values |= {f"matrix.{key}": value for key, value in (matrix or {}).items()}
        self._output.touch()
        (self.folder / "temp").mkdir(exist_ok=True)
        base = {
            **os.environ,
            **self._filled(found.get("env", {})),
            **self.env,
            "GITHUB_OUTPUT": str(self._output),
            "GITHUB_STEP_SUMMARY": str(self.folder / f"{job}.summary.md"),
            "RUNNER_TEMP": str(self.folder / "temp"),
        }
        for step in found["jobs"][job]["steps"]:
            name = step.get("name") or step.get("run") or step["uses"].partition("@")[0]
            if not self._wanted(step.get("if", "success()")):
                continue
            (between or {}).get(name, lambda: None)()
            went_well = self._use(step) if "uses" in step else self._run(step, name, base)
            if not went_well and not step.get("continue-on-error"):
                self.failed.append(name)
            for line in self._output.read_text(encoding="utf8").splitlines():
                key, _, value = line.partition("=")
                self.values[f"steps.{step.get('id')}.outputs.{key}"] = value
            self._output.write_text("", encoding="utf8")
        for key, value in self._filled(found["jobs"][job].get("outputs", {})).items():
            self.values[f"needs.{job}.outputs.{key}"] = value
        self.values[f"needs.{job}.result"] = "failure" if self.failed else "success"
        return not self.failed

    @property
    def _output(self) -> Path:
        return self.folder / "output"

    def _wanted(self, condition: str) -> bool:
        text = _EXPRESSION.sub(r"\1", condition)
        if text == "!cancelled()":
            return True
        return not self.failed and (text == "success()" or all(map(self._holds, text.split(" && "))))

    def _holds(self, comparison: str) -> bool:
        found = re.fullmatch(r"(\S+) (==|!=) '(.*)'", comparison)
        assert found, f"a condition that this runner does not know: {comparison}"
        return (self._of(found[1]) == found[3]) == (found[2] == "==")

    def _filled(self, values: Mapping[str, Any]) -> dict[str, str]:
        return {
            key: _EXPRESSION.sub(lambda match: self._of(match[1]), str(value))
            for key, value in values.items()
        }

    def _of(self, expression: str) -> str:
        if found := _HASH.fullmatch(expression):
            return hashlib.sha256((self.place / found[1]).read_bytes()).hexdigest()
        # An output that no step has set is empty; anything else has to be known.
        return self.values.get(expression, "") if ".outputs." in expression else self.values[expression]

    def _run(self, step: Mapping[str, Any], name: str, base: Mapping[str, str]) -> bool:
        assert "${{" not in step["run"], "an expression in a command can be broken out of"
        if step["run"].startswith(".ci/environment "):
            self._install(step["run"].split()[1])
        env = {**base, **self._filled(step.get("env", {})), **self.env}
        argv = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", step["run"]]
        done = subprocess.run(argv, cwd=self.place, env=env, capture_output=True, text=True)
        self.said[name] = done.stdout + done.stderr
        return done.returncode == 0

    def _install(self, target: str) -> None:
        """Make an environment where there is none: the one that the tests run in; a real one takes long."""
        if (self.place / target).exists():
            return
        self.installed.append(target)
        python = self.place / target / "bin" / "python"
        python.parent.mkdir(parents=True)
        python.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n', encoding="utf8")
        python.chmod(0o755)

    def _use(self, step: Mapping[str, Any]) -> bool:
        return _ACTIONS[step["uses"].partition("@")[0]](self, self._filled(step.get("with", {})))

    def checkout(self, given: Mapping[str, str]) -> bool:
        """Clone the remote at the ref."""
        git(self.place, "clone", "-q", str(self.remote), ".")
        git(self.place, "checkout", "-q", given.get("ref", self.ref))
        return True

    def nothing(self, given: Mapping[str, str]) -> bool:
        """Do what only GitHub can."""
        return True

    def python(self, given: Mapping[str, str]) -> bool:
        """Say which Python there is."""
        self._output.write_text(f"python-version={given['python-version']}.1\n", encoding="utf8")
        return True

    def restore(self, given: Mapping[str, str]) -> bool:
        """Bring what a run of this ref or of main has saved with the same key and path."""
        saved = [self._cached(ref, given) for ref in (self.ref, "main") if self._cached(ref, given).is_dir()]
        if saved:
            shutil.copytree(saved[0], self.place / given["path"])
        said = f"cache-hit={'true' if saved else ''}\ncache-primary-key={given['key']}\n"
        self._output.write_text(said, encoding="utf8")
        return True

    def save(self, given: Mapping[str, str]) -> bool:
        """Keep a folder for runs of this ref."""
        shutil.copytree(self.place / given["path"], self._cached(self.ref, given))
        return True

    def _cached(self, ref: str, given: Mapping[str, str]) -> Path:
        return self.caches / ref / given["key"] / given["path"]

    def upload(self, given: Mapping[str, str]) -> bool:
        """Keep an artifact; without files there is none."""
        found = self.place / given["path"]
        if found.is_dir():
            shutil.copytree(found, self.artifacts / given["name"])
        return found.is_dir() or given.get("if-no-files-found") == "warn"

    def download(self, given: Mapping[str, str]) -> bool:
        """Bring artifacts: one into the folder, or each of a pattern into one of its own."""
        found = sorted(self.artifacts.glob(given.get("name", given.get("pattern", "*"))))
        for artifact in found:
            target = self.place / given["path"]
            shutil.copytree(
                artifact, target if "name" in given else target / artifact.name, dirs_exist_ok=True
            )
        return bool(found) or "name" not in given

    def upload_page(self, given: Mapping[str, str]) -> bool:
        """Keep the page that is deployed."""
        self.deployed = self.place / given["path"]
        return True


_ACTIONS: dict[str, Callable[[Runner, Mapping[str, str]], bool]] = {
    "actions/checkout": Runner.checkout,
    "actions/setup-python": Runner.python,
    "actions/cache/restore": Runner.restore,
    "actions/cache/save": Runner.save,
    "actions/upload-artifact": Runner.upload,
    "actions/download-artifact": Runner.download,
    "actions/upload-pages-artifact": Runner.upload_page,
    "actions/deploy-pages": Runner.nothing,
}
