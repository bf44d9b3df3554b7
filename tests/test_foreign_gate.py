"""Changes of code that embedopt has never seen, as pull requests bring them: none ends in green."""

import os
import re
import socket
import subprocess
import sys
from functools import partial
from pathlib import Path
from shutil import copy, copytree, ignore_patterns

import pytest

from embedopt.evidence import GateRun, PairsWanted
from embedopt.judge.gate.pairs_rule import plan_pairs
from embedopt.judge.gate.settings import GateSettings
from embedopt.judge.gate.verdict import exit_code
from embedopt.judge.gate.whole_runs import judge_gate_run
from embedopt.measure.pairs.environment import install
from embedopt.measure.pairs.gate_run import GatePlan, measure_gate_run
from embedopt.measure.pairs.own_inputs import BaseInputs
from embedopt.measure.pairs.process_pair import Work
from embedopt.report.words import sentence, subject
from tests.models import make_model
from tests.repositories import git

SHOP = Path(__file__).parent / "shop"
TABLE = f"""
[tool.embedopt]
install = "{sys.executable} make_environment.py"

[tool.embedopt.targets.shop]
call = "shop.embedding:embed"
python = ".venv/bin/python"
"""
TEXTS = (SHOP / "products.txt").read_text(encoding="utf8").splitlines()


class Shop:
    """A clone of the shop whose last commit declares its embeddings, and a change that is not committed."""

    def __init__(self, folder: Path, table: str = TABLE) -> None:
        self.folder = folder
        copytree(SHOP, folder, ignore=ignore_patterns("__pycache__", ".venv"))
        git(folder, "init", "-q")
        self.commit()
        self.append("pyproject.toml", table)
        self.commit()
        self.steps: list[str] = []

    def commit(self) -> None:
        git(self.folder, "add", ".")
        git(self.folder, "commit", "-qm", "one")

    def append(self, name: str, text: str) -> None:
        with (self.folder / name).open("a", encoding="utf8") as file:
            file.write(text)

    def change(self, name: str, old: str, new: str) -> None:
        file = self.folder / name
        text = file.read_text(encoding="utf8")
        assert old in text
        file.write_text(text.replace(old, new), encoding="utf8")

    def gate(
        self,
        ref: str = "HEAD",
        pairs: int | None = 0,
        backends: tuple[str, ...] = ("shop",),
        model: str | None = None,
    ) -> GateRun:
        """Measure the change against a commit in some process pairs; None for those that the rule wants.

        The workflow has made the environment of the head.
        """
        if (self.folder / "make_environment.py").is_file():
            install(self.folder, f"{sys.executable} make_environment.py", lambda _: None)
        plan = GatePlan(
            ref=ref,
            head=self.folder,
            backends=backends,
            batch_sizes=(2,),
            budget_s=600.0,
            base_inputs=BaseInputs(is_model_given=model is None),
            invariance={"invariance_texts": 4, "invariance_rounds": 1},
        )
        cache_dir = str(self.folder.parent / "cache")
        work = Work(texts=tuple(TEXTS), model=model, cache_dir=cache_dir, cell_s=0.0)
        wanted = [[PairsWanted(cell=plan.cells[0], pairs=pairs)]] if pairs else []
        by_rule = partial(plan_pairs, settings=GateSettings(max_pairs=6))
        some = by_rule if pairs is None else lambda _: wanted.pop() if wanted else ()
        return measure_gate_run(plan, work, lambda _: some, self.steps.append)


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    return Shop(tmp_path / "shop")


def _seen(gate_run: GateRun) -> tuple[int, list[str]]:
    """Return the exit code, and in words each verdict that something has changed."""
    verdicts = judge_gate_run(gate_run, GateSettings())
    shown = [verdict for verdict in verdicts if verdict.outcome not in ("equivalent", "inconclusive")]
    return exit_code(verdicts), [f"{subject(verdict)}: {sentence(verdict)}" for verdict in shown]


EMBEDDING, API = "src/shop/embedding.py", "src/shop/api.py"


def test_slower_code_in_a_package_fails(shop: Shop) -> None:
    shop.change(EMBEDDING, "[_embed(text) for", "[[_embed(text) for _ in range(3)][0] for")
    code, lines = _seen(shop.gate(pairs=None))
    assert code == 1
    [line] = [line for line in lines if line.startswith("shop batch 2: ")]
    outliers = r"(, \d+ of \d+ pairs left out as outliers: .*)?"
    assert re.fullmatch(rf"shop batch 2: regressed, \+\d+\.\d% \(.*\) in \d+ process pairs{outliers}", line)
    assert shop.steps[0] == f"installing the base: {sys.executable} make_environment.py"


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("text.lower()", "text.upper()"),
        ("text.lower()", "text.lower()[:12]"),  # truncates
    ],
)
def test_other_vectors_fail(shop: Shop, old: str, new: str) -> None:
    shop.change(EMBEDDING, old, new)
    code, [line] = _seen(shop.gate())
    assert code == 6
    assert line.startswith("shop drift: vectors changed, -")
    assert line.endswith(
        'embed stored texts again, and declare it: accept = ["drift shop"] in [tool.embedopt.gate]'
    )


def test_another_function_in_the_table_is_compared_and_said(shop: Shop) -> None:
    shop.append(EMBEDDING, "\ndef reverse(texts):\n    return embed([text[::-1] for text in texts])\n")
    shop.change("pyproject.toml", "shop.embedding:embed", "shop.embedding:reverse")
    gate_run = shop.gate()
    code, [line] = _seen(gate_run)
    assert (code, line[:28]) == (6, "shop drift: vectors changed,")
    assert gate_run.notes == (
        "this change declares shop anew, and each side is measured by its own table: "
        "call 'shop.embedding:embed' -> 'shop.embedding:reverse'",
    )


def test_another_model_in_the_table_holds_each_side_against_its_own_and_is_said(
    shop: Shop, tmp_path: Path
) -> None:
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
    models = [str(make_model(tmp_path / "one", "mean")), str(make_model(tmp_path / "other", "cls"))]
    shop.change(EMBEDDING, "DIM = 64", "DIM = 32")
    shop.append("pyproject.toml", f'model = "{models[0]}"\n')
    shop.commit()
    shop.change("pyproject.toml", models[0], models[1])
    gate_run = shop.gate(model=models[1])
    [cosine] = [pair for pair in gate_run.exact if pair.metric == "cosine_mean"]
    assert (cosine.backend, cosine.base == cosine.head) == ("shop", False)  # though the code is the same
    assert [drift.similarity_min == 1.0 for drift in gate_run.drift if drift.backend == "shop"] == [True]
    assert "torch-fp32 drift: vectors changed," in [line[:34] for line in _seen(gate_run)[1]]
    assert gate_run.notes == (
        "this change declares shop anew, and each side is measured by its own table: "
        f"model {models[0]!r} -> {models[1]!r}",
    )


# Changes of the head, or of the base, with what is said of the target as a whole.
_REFUSED = {
    "other pins in the lock file": (
        ("requirements.txt", "numpy==1.26.4", "numpy==2.0.0"),
        "AssertionError: these are not the shop's pins",
    ),
    "an import that fails": (
        (EMBEDDING, "import zlib", "import zlib, dance"),
        "ModuleNotFoundError: No module named 'dance'",
    ),
    "a text dropped": (
        (EMBEDDING, "for text in texts]", "for text in texts[:-1] or texts]"),
        "shop gave numbers of shape (23, 64) for 24 texts",
    ),
}


@pytest.mark.parametrize("name", _REFUSED)
def test_a_head_that_cant_be_measured_is_not_comparable(shop: Shop, name: str) -> None:
    change, words = _REFUSED[name]
    shop.change(*change)
    code, [line] = _seen(shop.gate())
    assert code == 4
    assert line.startswith("shop: not comparable, head: ")
    assert words in line


def test_a_base_that_cant_start_is_not_comparable(shop: Shop) -> None:
    shop.change(EMBEDDING, "import zlib", "import zlib, dance")
    shop.commit()
    shop.change(EMBEDDING, "import zlib, dance", "import zlib")
    code, [line] = _seen(shop.gate())
    assert code == 4
    assert line.startswith("shop: not comparable, base: shop can't open shop.embedding:embed: ModuleNotFound")


def test_a_base_without_an_environment_says_what_makes_one(shop: Shop) -> None:
    shop.change("pyproject.toml", "install =", "# install =")
    shop.commit()
    code, [line] = _seen(shop.gate())
    assert code == 4
    assert line.startswith("shop: not comparable, base: python = '.venv/bin/python' can't be run in ")


def _environment_for_both(shop: Shop, folder: Path) -> Path:
    """Make one environment outside the repository, which base and head both name; return its packages."""
    subprocess.run([sys.executable, str(shop.folder / "make_environment.py")], check=True)
    (shop.folder / ".venv").rename(folder)
    shop.change("pyproject.toml", ".venv/bin/python", str(folder / "bin" / "python"))
    [packages] = folder.glob("lib/python*/site-packages")
    return packages


def test_an_installed_copy_that_both_sides_run_is_not_comparable(shop: Shop, tmp_path: Path) -> None:
    """The folder of the code is not where Python looks; so a change of it would change nothing."""
    packages = _environment_for_both(shop, tmp_path / "environment")
    copytree(shop.folder / "src" / "shop", packages / "shop")
    (shop.folder / "src").rename(shop.folder / "code")
    shop.commit()
    shop.change("code/shop/embedding.py", "EFFORT = 20", "EFFORT = 60")
    code, [line] = _seen(shop.gate())
    assert (code, line) == (
        4,
        f"shop: not comparable, base and head both ran {packages}/shop/__init__.py; wanted each its own: "
        "set source, or python and install, in [tool.embedopt] of pyproject.toml",
    )


def test_another_lock_file_in_one_environment_for_both_is_not_comparable(shop: Shop, tmp_path: Path) -> None:
    packages = _environment_for_both(shop, tmp_path / "environment")
    shop.commit()
    shop.change("requirements.txt", "4.41.2", "4.41.1")
    code, [line] = _seen(shop.gate())
    assert (code, line) == (
        4,
        f"shop: not comparable, base and head both ran {packages}/numpy.py, though requirements.txt changed; "
        "wanted each its own: set source, or python and install, in [tool.embedopt] of pyproject.toml",
    )


def test_code_that_answers_otherwise_when_it_is_timed_has_changed_its_vectors(shop: Shop) -> None:
    shop.change(
        EMBEDDING,
        "return [_embed(text) for text in texts]",
        "return [[1.0] * DIM if text[-1].isdigit() else _embed(text) for text in texts]",
    )
    gate_run = shop.gate(pairs=1)
    code, [line] = _seen(gate_run)
    assert (code, line[:28]) == (6, "shop drift: vectors changed,")


def test_a_cache_of_results_is_named_and_the_times_of_repeated_texts_are_shown(shop: Shop) -> None:
    shop.change(EMBEDDING, "def _embed", "import functools\n@functools.cache\ndef _embed")
    gate_run = shop.gate(pairs=1)
    assert [drift.similarity_min for drift in gate_run.drift] == [1.0]
    [note] = [note for note in gate_run.notes if note.startswith("shop ")]  # others are of a busy machine
    assert re.fullmatch(
        r"shop keeps results: a repeated text takes \d+% of a new one's time in base and \d+% in head; "
        r"the times here are of new texts",
        note,
    )


def test_the_change_that_adopts_embedopt_is_neutral(shop: Shop) -> None:
    assert _seen(shop.gate("HEAD^")) == (0, ["shop: measured alone, new: nothing to compare it with"])


def test_a_renamed_target_fails_until_it_is_declared(shop: Shop) -> None:
    shop.change("pyproject.toml", "targets.shop", "targets.search")
    renamed = (
        'shop: not comparable, removed: declare it with accept = ["removed shop"] in [tool.embedopt.gate]'
    )
    alone = "search: measured alone, new: nothing to compare it with"
    assert _seen(shop.gate(backends=("search",))) == (4, [renamed, alone])
    shop.append("pyproject.toml", '[tool.embedopt.gate]\naccept = ["removed shop"]')
    assert _seen(shop.gate(backends=("search",))) == (0, ["shop: declared, removed", alone])


SERVICE = f"""
[tool.embedopt]
install = "{sys.executable} make_environment.py"

[tool.embedopt.targets.shop]
start = "python -m shop.api {{port}}"
url = "http://127.0.0.1:{{port}}/v1/embeddings"
python = ".venv/bin/python"
"""
# Changes of the service, with the exit code and how the verdict begins.
_SERVED = {
    "none": ((EMBEDDING, "EFFORT = 20", "EFFORT = 20  #"), 5, []),
    "other vectors": ((EMBEDDING, "text.lower()", "text.upper()"), 6, ["shop drift: vectors changed, -"]),
    "texts cut": ((API, "embed(texts)", "embed([text[:12] for text in texts])"), 6, ["shop drift: vec"]),
    "one vector repeated": (
        (API, "embed(texts)", "embed(texts[:1] * len(texts))"),
        3,
        ["shop batch_invariance_min: regressed, -", "shop drift: vectors changed, -"],
    ),
    "a text dropped": (
        (API, "enumerate(embed(texts))", "enumerate(embed(texts)[:-1] or embed(texts))"),
        4,
        ["shop: not comparable, head: shop gave numbers of shape (23, 64) for 24 texts; wanted (24, 64), "],
    ),
    "a command that fails": (
        ("pyproject.toml", "-m shop.api", "-m shop.nothing"),
        4,
        ["shop: not comparable, head: shop: 'python -m shop.nothing "],
    ),
}


@pytest.mark.parametrize("name", _SERVED)
def test_each_side_starts_its_own_service(tmp_path: Path, name: str) -> None:
    """No time is decided here, so that what has not changed is inconclusive."""
    shop = Shop(tmp_path / "shop", SERVICE)
    change, code, begins = _SERVED[name]
    shop.change(*change)
    seen_code, lines = _seen(shop.gate())
    assert (seen_code, [line[: len(start)] for line, start in zip(lines, begins, strict=True)]) == (
        code,
        begins,
    )


def _install_a_copy(shop: Shop, folder: Path) -> Path:
    """Install the shop into one environment that base and head both name; return its packages."""
    packages = _environment_for_both(shop, folder)
    copytree(shop.folder / "src" / "shop", packages / "shop")
    shop.commit()
    return packages


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("", "base and head both ran {}/shop/__init__.py; wanted each its own"),
        ("-E", "head: shop can't show the files of 'python -E -m shop.api "),
    ],
)
def test_an_installed_copy_that_a_server_runs_is_not_comparable(
    tmp_path: Path, options: str, words: str
) -> None:
    """Its folder is not where Python looks; with -E, nobody sees what it imports."""
    shop = Shop(tmp_path / "shop", SERVICE.replace("python -m", f"python {options} -m"))
    packages = _install_a_copy(shop, tmp_path / "environment")
    (shop.folder / "src").rename(shop.folder / "code")
    shop.commit()
    shop.change("code/shop/embedding.py", "EFFORT = 20", "EFFORT = 60")
    code, [line] = _seen(shop.gate())
    assert code == 4
    assert line.startswith(f"shop: not comparable, {words.format(packages)}")
    assert ("child processes by spawn, not fork; wanted a server: " in line) == bool(options)


_NOT_SEEN = (
    "the files that it imports can't be seen: start Python without -E and -I, and child processes by spawn, "
    "not fork"
)
# What a start script of the checkout runs, with why the files that run are not seen.
_HIDDEN = {
    "python becomes another": (
        "exec python become.py $1",
        _NOT_SEEN,
    ),
    "python without notes beside one with": (
        "python -c 'import shop, time; time.sleep(600)' & exec python -E -m shop.api $1",
        _NOT_SEEN,
    ),
    "a container": (
        './docker -c "python -m shop.api $1; exit"',
        "docker hides the files that run: start the server itself",
    ),
}


@pytest.mark.parametrize("name", _HIDDEN)
def test_a_script_that_hides_what_runs_is_not_comparable(tmp_path: Path, name: str) -> None:
    script, words = _HIDDEN[name]
    shop = Shop(tmp_path / "shop", SERVICE.replace("python -m shop.api", "sh serve.sh"))
    _install_a_copy(shop, tmp_path / "environment")
    copy(os.path.realpath("/bin/sh"), shop.folder / "docker")
    shop.append("serve.sh", script)
    shop.append(
        "become.py",
        "import os, shop, sys\nos.execv(sys.executable, ['python', '-I', '-m', 'shop.api', sys.argv[1]])",
    )
    shop.commit()
    shop.change(EMBEDDING, "EFFORT = 20", "EFFORT = 60")
    code, [line] = _seen(shop.gate())
    assert code == 4
    assert line.startswith("shop: not comparable, head: shop can't show the files of 'sh serve.sh ")
    assert words in line


def test_a_server_that_closes_what_it_inherited_is_seen_and_writes_into_no_file(tmp_path: Path) -> None:
    """Its file has the number of the notes' by then."""
    shop = Shop(tmp_path / "shop", SERVICE)
    shop.change(
        API,
        "import sys",
        "import os\n"
        "os.closerange(3, 64)\n"
        f"kept = [open({str(tmp_path / 'own.txt')!r}, 'a') for _ in range(8)]\n"
        "import sys",
    )
    shop.commit()
    shop.change(EMBEDDING, "text.lower()", "text.upper()")
    code, [line] = _seen(shop.gate())
    assert (code, line[:28]) == (6, "shop drift: vectors changed,")
    assert (tmp_path / "own.txt").read_text(encoding="utf8") == ""


@pytest.mark.parametrize(
    ("folder", "words"),
    [
        ("shop/src", "base and head both ran {}/serve.py; wanted"),  # the checkout of head
        (
            "elsewhere",
            "base and head both ran 'python {}/serve.py {{port}}', and no file of their commits",
        ),
    ],
)
def test_a_server_outside_its_own_checkout_is_not_comparable(tmp_path: Path, folder: str, words: str) -> None:
    path = tmp_path / folder
    shop = Shop(tmp_path / "shop", SERVICE.replace("-m shop.api", f"{path}/serve.py"))
    copytree(shop.folder / "src" / "shop", path / "store")
    code = (path / "store" / "api.py").read_text(encoding="utf8")
    (path / "serve.py").write_text(code.replace("shop.embedding", "store.embedding"), encoding="utf8")
    shop.append("requirements.txt", "\n")
    shop.commit()
    shop.change(EMBEDDING, "EFFORT = 20", "EFFORT = 60")
    seen, [line] = _seen(shop.gate())
    assert seen == 4
    assert line.startswith(f"shop: not comparable, {words.format(path)}")


# A target that starts a process for each call.
_PARENT = """
import json, os, subprocess, sys

def embed(texts):
    command = [sys.executable, "-m", "shop.child"]
    done = subprocess.run(command, input=json.dumps(texts), cwd=FOLDER, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout)
"""
_CHILD = """
import json, sys
from shop.embedding import embed

print(json.dumps(embed(json.load(sys.stdin))))
"""


def _start_children(shop: Shop, folder: str) -> None:
    shop.append("src/shop/parent.py", _PARENT.replace("FOLDER", folder))
    shop.append("src/shop/child.py", _CHILD)
    shop.change("pyproject.toml", "shop.embedding:embed", "shop.parent:embed")
    shop.commit()


def test_another_vector_of_a_child_process_fails(shop: Shop) -> None:
    _start_children(shop, "os.path.dirname(os.path.dirname(__file__))")
    shop.change(EMBEDDING, "text.lower()", "text.upper()")
    code, [line] = _seen(shop.gate())
    assert (code, line[:28]) == (6, "shop drift: vectors changed,")


def test_an_installed_copy_that_a_child_process_runs_is_not_comparable(shop: Shop, tmp_path: Path) -> None:
    _start_children(shop, "'/'")
    packages = _install_a_copy(shop, tmp_path / "environment")
    shop.change(EMBEDDING, "text.lower()", "text.upper()")
    code, [line] = _seen(shop.gate())
    assert code == 4
    assert line.startswith(f"shop: not comparable, base and head both ran {packages}/shop/__init__.py; w")


def test_one_service_that_answers_both_sides_is_not_comparable(shop: Shop, tmp_path: Path) -> None:
    install(shop.folder, f"{sys.executable} make_environment.py", lambda _: None)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    url = f"http://127.0.0.1:{port}/v1/embeddings"
    command = [str(shop.folder / ".venv" / "bin" / "python"), "-m", "shop.api", str(port)]
    with subprocess.Popen(command, cwd=shop.folder / "src", stdout=subprocess.PIPE, text=True) as service:
        try:
            assert service.stdout is not None
            assert service.stdout.readline() == "listening\n"
            client = Shop(tmp_path / "client", f'[tool.embedopt.targets.shop]\nurl = "{url}"\n')
            client.change(EMBEDDING, "text.lower()", "text.upper()")
            assert _seen(client.gate()) == (
                4,
                [
                    f"shop: not comparable, base and head were both answered by {url}; "
                    "wanted a server of each: give start, too"
                ],
            )
        finally:
            service.kill()
