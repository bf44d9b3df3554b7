"""A stand-in for GitHub's runner: it runs the commands of workflows and imitates the actions they use."""

import hashlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from tests.repositories import git

GITHUB = Path(__file__).parents[1] / ".github"
WORKFLOWS = GITHUB / "workflows"
_EXPRESSION = re.compile(r"\$\{\{\s*(.*?)\s*\}\}")
_HASH = re.compile(r"hashFiles\('(.*)'\)")


def workflow(name: str) -> dict[str, Any]:
    """Read a workflow; YAML reads its key ``on`` as True."""
    content: dict[str, Any] = yaml.safe_load((WORKFLOWS / name).read_text(encoding="utf8"))
    return content


def triggers(content: Mapping[Any, Any]) -> dict[str, Any]:
    """Return what starts a workflow."""
    events: dict[str, Any] = content[True]
    return events


@dataclass
class Runner:
    """Runs the jobs of one run of a workflow, each in a checkout of its own.

    Attributes:
        name: file name of the workflow.
        folder: folder for checkouts, artifacts and outputs.
        remote: bare repository that is cloned.
        ref: branch or commit that is checked out.
        values: values of expressions, by the text of the expression.
        env: environment variables of all steps.
        caches: folder of the caches, which outlives the run.
        interpreter: Python of all environments.
        artifacts: folder of the uploaded artifacts.
        failed: names of the steps of the last job that failed.
        printed: what each step printed, by its name.
        deployed: folder of the page that was uploaded for deployment.
        installed: environments that were made since no cache had them.
        checkout_folder: checkout of the job that is running.
    """

    name: str
    folder: Path
    remote: Path
    ref: str
    values: dict[str, str]
    env: Mapping[str, str]
    caches: Path
    interpreter: str = sys.executable
    artifacts: Path = field(init=False)
    failed: list[str] = field(default_factory=list)
    printed: dict[str, str] = field(default_factory=dict)
    deployed: Path | None = None
    installed: list[str] = field(default_factory=list)
    checkout_folder: Path = field(init=False)

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
        """Run a job; return whether it succeeded.

        Args:
            job: key of the job in the workflow.
            index: index of this job in its matrix.
            matrix: values of the matrix for this job.
            between: functions that are called before a step, by the step's name.
        """
        content, self.checkout_folder = workflow(self.name), self.folder / f"{job}{index or ''}"
        self.checkout_folder.mkdir()
        self.failed.clear()
        self.values = {key: value for key, value in self.values.items() if not key.startswith("steps.")}
        self.values |= {"strategy.job-index": str(index)}
        self.values |= {f"matrix.{key}": value for key, value in (matrix or {}).items()}
        self._output.touch()
        (self.folder / "temp").mkdir(exist_ok=True)
        base = {
            **os.environ,
            **self._filled(content.get("env", {})),
            **self._filled(content["jobs"][job].get("env", {})),
            **self.env,
            "GITHUB_ACTION_PATH": str(GITHUB / "actions" / "gate"),
            "GITHUB_OUTPUT": str(self._output),
            "GITHUB_STEP_SUMMARY": str(self.folder / f"{job}.summary.md"),
            "GITHUB_WORKSPACE": str(self.checkout_folder),
            "RUNNER_TEMP": str(self.folder / "temp"),
        }
        self._play_steps(content["jobs"][job]["steps"], base, between or {})
        for key, value in self._filled(content["jobs"][job].get("outputs", {})).items():
            self.values[f"needs.{job}.outputs.{key}"] = value
        self.values[f"needs.{job}.result"] = "failure" if self.failed else "success"
        return not self.failed

    def _play_steps(
        self,
        steps: Sequence[Mapping[str, Any]],
        base: Mapping[str, str],
        between: Mapping[str, Callable[[], None]],
    ) -> None:
        """Run the steps of a job, or those of an action of this repository in the place of its step."""
        for step in steps:
            name = step.get("name") or step.get("run") or step["uses"].partition("@")[0]
            if not self._applies(step.get("if", "success()")):
                continue
            if step.get("uses", "").startswith("$/"):
                inputs = self._filled(step["with"])
                self.values |= {f"inputs.{key}": value for key, value in inputs.items()}
                action = yaml.safe_load((GITHUB.parent / step["uses"][2:] / "action.yml").read_text("utf8"))
                self._play_steps(action["runs"]["steps"], base, between)
                continue
            between.get(name, lambda: None)()
            succeeded = self._use(step) if "uses" in step else self._run(step, name, base)
            if not succeeded and not step.get("continue-on-error"):
                self.failed.append(name)
            for line in self._output.read_text(encoding="utf8").splitlines():
                key, _, value = line.partition("=")
                self.values[f"steps.{step.get('id')}.outputs.{key}"] = value
            self._output.write_text("", encoding="utf8")

    @property
    def _output(self) -> Path:
        return self.folder / "output"

    def _applies(self, condition: str) -> bool:
        text = _EXPRESSION.sub(r"\1", condition)
        if text in ("!cancelled()", "always()"):
            return True
        return not self.failed and (text == "success()" or all(map(self._holds, text.split(" && "))))

    def _holds(self, comparison: str) -> bool:
        match = re.fullmatch(r"(\S+) (==|!=) '(.*)'", comparison)
        assert match, f"this runner does not know the condition {comparison}"
        return (self._value(match[1]) == match[3]) == (match[2] == "==")

    def _filled(self, values: Mapping[str, Any]) -> dict[str, str]:
        return {
            key: _EXPRESSION.sub(lambda match: self._value(match[1]), str(value))
            for key, value in values.items()
        }

    def _value(self, expression: str) -> str:
        if match := _HASH.fullmatch(expression):
            files = [self.checkout_folder / name for name in match[1].split("', '")]
            return hashlib.sha256(b"".join(map(Path.read_bytes, files))).hexdigest()
        # An output that no step has set is empty; any other expression must have a value.
        return self.values.get(expression, "") if ".outputs." in expression else self.values[expression]

    def _run(self, step: Mapping[str, Any], name: str, base: Mapping[str, str]) -> bool:
        assert "${{" not in step["run"], "the value of an expression in a command could inject code"
        if step["run"].startswith(".ci/environment "):
            self._install(step["run"].split()[1])
        if "-m venv" in step["run"]:
            self._install(str(self.folder / "temp" / "embedopt"))
            return True
        env = {**base, **self._filled(step.get("env", {})), **self.env}
        folder = self.checkout_folder / self._filled({"in": step.get("working-directory", ".")})["in"]
        argv = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", step["run"]]
        done = subprocess.run(argv, cwd=folder, env=env, capture_output=True, text=True)
        self.printed[name] = done.stdout + done.stderr
        return done.returncode == 0

    def _install(self, target: str) -> None:
        """Make an environment of the interpreter where there is none, as to install packages takes long."""
        if (self.checkout_folder / target).exists():
            return
        self.installed.append(target)
        python = self.checkout_folder / target / "bin" / "python"
        python.parent.mkdir(parents=True)
        python.write_text(f'#!/bin/sh\nexec {self.interpreter} "$@"\n', encoding="utf8")
        python.chmod(0o755)

    def _use(self, step: Mapping[str, Any]) -> bool:
        return _ACTIONS[step["uses"].partition("@")[0]](self, self._filled(step.get("with", {})))

    def checkout(self, options: Mapping[str, str]) -> bool:
        """Clone the remote at the ref."""
        git(self.checkout_folder, "clone", "-q", str(self.remote), ".")
        git(self.checkout_folder, "checkout", "-q", options.get("ref") or self.ref)
        return True

    def nothing(self, options: Mapping[str, str]) -> bool:
        """Do nothing in place of an action that only GitHub can run."""
        return True

    def python(self, options: Mapping[str, str]) -> bool:
        """Output the version of Python, and its path."""
        output = f"python-version={options['python-version']}.1\npython-path={sys.executable}\n"
        self._output.write_text(output, encoding="utf8")
        return True

    def restore(self, options: Mapping[str, str]) -> bool:
        """Restore what a run of this ref or of main has saved with the same key and path."""
        saved = [
            self._cached(ref, options) for ref in (self.ref, "main") if self._cached(ref, options).is_dir()
        ]
        if saved:
            shutil.copytree(saved[0], self.checkout_folder / options["path"])
        output = f"cache-hit={'true' if saved else ''}\ncache-primary-key={options['key']}\n"
        self._output.write_text(output, encoding="utf8")
        return True

    def save(self, options: Mapping[str, str]) -> bool:
        """Save a folder for runs of this ref."""
        shutil.copytree(self.checkout_folder / options["path"], self._cached(self.ref, options))
        return True

    def _cached(self, ref: str, options: Mapping[str, str]) -> Path:
        return self.caches / ref / options["key"] / options["path"]

    def upload(self, options: Mapping[str, str]) -> bool:
        """Upload an artifact; without files there is none."""
        source = self.checkout_folder / options["path"]
        if source.is_dir():
            shutil.copytree(source, self.artifacts / options["name"])
        return source.is_dir() or options.get("if-no-files-found") == "warn"

    def download(self, options: Mapping[str, str]) -> bool:
        """Download one artifact into the folder, or each of a pattern into a folder of its own."""
        artifacts = sorted(self.artifacts.glob(options.get("name", options.get("pattern", "*"))))
        for artifact in artifacts:
            target = self.checkout_folder / options["path"]
            shutil.copytree(
                artifact, target if "name" in options else target / artifact.name, dirs_exist_ok=True
            )
        return bool(artifacts) or "name" not in options

    def upload_page(self, options: Mapping[str, str]) -> bool:
        """Upload the page for deployment."""
        self.deployed = self.checkout_folder / options["path"]
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
