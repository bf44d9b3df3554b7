"""A project's own code answers from a process of its own interpreter, and fails in one true line."""

import os
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from embedopt.errors import EmbedoptError, MeasureError
from embedopt.inference import foreign_worker
from embedopt.inference.artifacts.weights import resolve_weights
from embedopt.inference.backends import declare, get_backend
from embedopt.inference.encoder import FloatArray
from embedopt.inference.encoders.foreign_process import ForeignProcess
from embedopt.inference.plan import padding_share
from embedopt.inference.targets import declare_targets
from tests.fakes import FakeClock
from tests.inference.projects import EMBED, make_interpreter, make_project
from tests.measure.pairs.stand_ins import has_group_ended

TEXTS = ["welder", "nurse, nights", ""]
EXPECTED = np.asarray([[len(text), 1 + sum(map(ord, text)) % 97, 3] for text in TEXTS], dtype=np.float32)


_ROWS = "def rows(texts): return [[len(t), 1.0 + sum(map(ord, t)) % 97, 3.0] for t in texts]"


@pytest.fixture(autouse=True)
def _only_our_rows() -> Iterator[None]:
    yield
    declare([])


def _open(project: Path) -> ForeignProcess:
    declare_targets(project)
    return ForeignProcess(get_backend("shop"), resolve_weights().path)


@pytest.mark.parametrize("way", ["fork", "spawn"])
def test_a_fork_hides_what_it_imports_and_the_words_say_what_does_not(tmp_path: Path, way: str) -> None:
    code = f"""
        import multiprocessing

        class Shop:
            def __init__(self):
                self.pool = multiprocessing.get_context("{way}").Pool(1)
                assert self.pool.apply(abs, (-1,)) == 1

            def encode(self, texts):
                return [[1.0, 2.0] for text in texts]
    """
    with _open(make_project(tmp_path, code, call="shop.embedding:Shop")) as encoder:
        encoder.encode(TEXTS)
        if way == "spawn":
            assert encoder.files()["module"] == str(tmp_path / "src" / "shop" / "embedding.py")
            return
        with pytest.raises(MeasureError) as caught:
            encoder.files()
    assert str(caught.value) == (
        "shop can't show its files: RuntimeError: the files that it imports can't be seen: start Python "
        "without -E and -I, and child processes by spawn, not fork"
    )


def test_the_code_runs_in_its_own_interpreter_without_anything_of_ours(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    python = make_interpreter(tmp_path_factory.getbasetemp() / "interpreter")
    code = """
        import importlib.util, os, sys
        assert sys.prefix != sys.base_prefix
        for name in ("numpy", "embedopt", "static", "onnxruntime"):  # ours, and files beside the worker
            assert importlib.util.find_spec(name) is None, name
        assert os.getcwd() == str(__import__("pathlib").Path(__file__).parents[2])
    """
    project = make_project(tmp_path, textwrap.dedent(code) + EMBED, python=str(python))
    with _open(project) as encoder:
        assert np.array_equal(encoder.encode(TEXTS), EXPECTED)
        assert (encoder.name, encoder.dim) == ("shop", 3)
        assert np.array_equal(encoder.encode(TEXTS, prompt="Q: ")[:, 0], [9, 16, 3])
        assert encoder.token_counts(["welder"]).tolist() == [4]  # by the bundled model's tokenizer
        files = encoder.files()
        assert files["module"] == str(tmp_path / "src" / "shop" / "embedding.py")
        assert files["module"] in files["files"]
        assert not any("embedopt" in Path(file).parts for file in files["files"])


@pytest.mark.parametrize(
    ("code", "name"),
    [
        ("class Shop:\n    def encode(self, texts): return rows(texts)", "Shop"),
        ("class Shop:\n    def __call__(self, texts): return rows(texts)", "Shop"),
        ("class Shop:\n    def encode(self, texts): return rows(texts)\nshop = Shop()", "shop.encode"),
        ("async def embed(texts): return rows(texts)", "embed"),
        ("def embed(texts): yield from rows(texts)", "embed"),
        ("def embed(texts): return tuple(map(tuple, rows(texts)))", "embed"),
        ("import numpy\ndef embed(texts): return numpy.array(rows(texts), dtype='f4')", "embed"),
        ("import numpy\ndef embed(texts): return numpy.array(rows(texts), dtype='f8')", "embed"),
        ("import numpy\ndef embed(texts): return numpy.array(rows(texts), dtype='f2')", "embed"),
        ("import numpy\ndef embed(texts): return numpy.array(rows(texts), dtype='f4').T.copy().T", "embed"),
        ("import numpy\ndef embed(texts): return [numpy.array(row) for row in rows(texts)]", "embed"),
    ],
)
def test_functions_classes_and_objects_embed_with_any_kind_of_rows(
    tmp_path: Path, code: str, name: str
) -> None:
    project = make_project(tmp_path, f"{_ROWS}\n{code}", call=f"shop.embedding:{name}")
    with _open(project) as encoder:
        assert np.array_equal(encoder.encode(TEXTS), EXPECTED)


def test_no_texts_make_no_batches_and_no_padding(tmp_path: Path) -> None:
    """A job whose first rows are all rejected asks for their padding."""
    with _open(make_project(tmp_path, EMBED)) as encoder:
        plan = encoder.plan([])
        assert (plan.batches, padding_share(encoder.token_counts([]), plan.batches)) == ([], 0.0)


def test_a_class_is_made_once_and_keeps_what_it_opened(tmp_path: Path) -> None:
    code = """
        made = []
        class Shop:
            def __init__(self): made.append(1)
            def encode(self, texts): return [[float(len(made)), 1.0] for _ in texts]
    """
    with _open(make_project(tmp_path, code, call="shop.embedding:Shop")) as encoder:
        assert encoder.encode(TEXTS)[:, 0].tolist() == [1, 1, 1]
        assert encoder.encode(TEXTS)[:, 0].tolist() == [1, 1, 1]


def test_what_the_code_prints_and_reads_does_not_disturb_the_answers(tmp_path: Path) -> None:
    code = """
        import os, sys
        print("opening")
        def embed(texts):
            print("embedding", len(texts), flush=True)
            os.write(1, b"from C\\n")
            return [[1.0, float(len(sys.stdin.read()))] for _ in texts]
    """
    with _open(make_project(tmp_path, code)) as encoder:
        assert encoder.encode(TEXTS).tolist() == [[1, 0]] * 3


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (
            "raise ValueError('no stock\\nat all')",
            r"^shop failed on a list of 2 texts: ValueError: no stock \(src/shop/embedding\.py:4\); wanted "
            r"their embeddings: mend it, or leave shop out$",
        ),
        (  # written for one text
            "return texts.lower()",
            r"^shop failed on a list of 2 texts: AttributeError: 'list' object has no attribute 'lower' ",
        ),
        (
            "sys.exit(3)",
            r"^shop failed on a list of 2 texts: SystemExit: 3 \(src/shop/embedding\.py:4\); wanted",
        ),
        (
            "return json.loads('{')",
            r"shop failed on a list of 2 texts: JSONDecodeError: .* \(src/shop/embedding\.py:4\); wanted",
        ),
        (
            "return None",
            r"TypeError: the answer is a NoneType, 'NoneType' object is not iterable; wanted \(n, ",
        ),
        (
            "return [1.0, 2.0]",
            r"TypeError: the answer is a list, 'float' object is not iterable; wanted \(n, d",
        ),
        (
            "return {'a': 1}",
            r"TypeError: the answer is a dict, which is no sequence of numbers; wanted \(n, d",
        ),
        (
            "return [[1.0], [1.0, 2.0]]",
            r"TypeError: the answer has rows of 1 to 2 numbers; wanted \(n, dim\)",
        ),
        (
            "return [[1.0, 2.0, 3.0]]",
            r"^shop gave numbers of shape \(1, 3\) for 2 texts; wanted \(2, 3\), an embedding for each text",
        ),
        (
            "return [[1.0, 2.0]] * 2",
            r"^shop gave numbers of shape \(2, 2\) for 2 texts; wanted \(2, 3\), an e",
        ),
        ("return []", r"^shop gave numbers of shape \(0,\) for 2 texts; wanted \(2, 3\), an embedding"),
        (
            "return [[1.0, 2.0, 3.0], [1.0, float('nan'), 3.0]]",
            r"^shop gave NaN or infinity for 'nurse'; wanted numbers: mend it, or leave shop out$",
        ),
        ("return [[1.0, 2.0, 1e300]] * 2", r"^shop gave NaN or infinity for 'welder'; wanted numbers"),
    ],
)
def test_a_call_that_fails_is_one_line_and_the_process_lives_on(
    tmp_path: Path, body: str, message: str
) -> None:
    code = f"""
        import json, sys
        def embed(texts):
            if len(texts) == 2: {body}
            return [[1.0, 2.0, 3.0] for _ in texts]
    """.replace("if len(texts) == 2: ", "if len(texts) == 2:\n                ")
    code = code.replace("\n        import json, sys", "import json, sys").replace("\n        ", "\n")
    with _open(make_project(tmp_path, code)) as encoder:
        with pytest.raises(MeasureError, match=message) as caught:
            encoder.encode(["welder", "nurse"])
        assert "\n" not in str(caught.value)
        assert encoder.encode(["welder"]).tolist() == [[1, 2, 3]]


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (
            "import absent_module",
            r"^shop can't open shop\.embedding:embed: ModuleNotFoundError: No module named 'absent_module' "
            r"\(src/shop/embedding\.py:1\); wanted module:name of what embeds: check call, python and source "
            r"of \[tool\.embedopt\.targets\.shop\]$",
        ),
        ("def embed(:", r"SyntaxError: invalid syntax \(embedding\.py, line 1\); wanted module:name"),
        ("x = 1", r"AttributeError: module 'shop\.embedding' has no attribute 'embed'; wanted module:name"),
        (
            "embed = 7",
            r"TypeError: shop\.embedding:embed is a int; wanted what can be called, or has encode\(\)",
        ),
        ("import os; os._exit(4)", r"^shop ended with 4: it wrote no error$"),
        ("import os; os.abort()", r"^shop ended with -6: "),
    ],
)
def test_code_that_cant_be_opened_is_one_line(tmp_path: Path, code: str, message: str) -> None:
    with pytest.raises(MeasureError, match=message):
        _open(make_project(tmp_path, code))


def test_an_interpreter_that_cant_be_run_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(
        MeasureError, match=r"^python = '\.venv/bin/python' can't be run in /.*; wanted an inte"
    ):
        _open(make_project(tmp_path, python=".venv/bin/python"))


def test_a_call_that_hangs_is_ended_with_all_that_it_started(tmp_path: Path) -> None:
    code = """
        import subprocess, sys
        def embed(texts):
            if len(texts) > 1:
                child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
                child.wait()
            return [[1.0] for _ in texts]
    """
    with _open(make_project(tmp_path, code, timeout_s=2)) as encoder:
        with pytest.raises(
            MeasureError, match=r"^shop gave no answer for 2 s; it was killed: raise timeout_s o"
        ):
            encoder.encode(["welder", "nurse"])
        with pytest.raises(MeasureError, match=r"^shop ended with -9: "):
            encoder.encode(["welder"])
    assert has_group_ended(encoder.pid or 0)


def test_the_clock_stands_still_outside_of_the_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The code says how long it took; our own checks before and after it take a second each."""
    code = """
        import time
        now_s = [0.0]
        time.perf_counter = lambda: now_s[0]
        def embed(texts):
            now_s[0] += 0.25 * len(texts)
            return [[1.0] for _ in texts]
    """
    now = FakeClock()
    check, check_answer = ForeignProcess._checked, ForeignProcess._checked_answer

    def slow_check(encoder: ForeignProcess, *arguments: Any) -> list[str]:
        now.advance(1.0)
        return check(encoder, *arguments)

    def slow_check_of_answer(encoder: ForeignProcess, *arguments: Any) -> FloatArray:
        now.advance(1.0)
        return check_answer(encoder, *arguments)

    with _open(make_project(tmp_path, code)) as encoder:
        monkeypatch.setattr(time, "perf_counter", now)
        monkeypatch.setattr(ForeignProcess, "_checked", slow_check)
        monkeypatch.setattr(ForeignProcess, "_checked_answer", slow_check_of_answer)
        started_s = encoder.clock()
        encoder.encode(["a", "b"])
        assert (now(), encoder.clock() - started_s) == (2.0, 0.5)


def test_a_closed_encoder_has_no_process_and_says_so(tmp_path: Path) -> None:
    encoder = _open(make_project(tmp_path))
    encoder.close()
    encoder.close()
    with pytest.raises(EmbedoptError, match="the encoder shop is closed"):
        encoder.encode(TEXTS)
    with pytest.raises(ProcessLookupError):
        os.kill(encoder.pid or 0, 0)


def test_calls_of_several_threads_each_get_their_own_answer(tmp_path: Path) -> None:
    with _open(make_project(tmp_path)) as encoder:
        answers: dict[str, list[list[float]]] = {}
        threads = [
            threading.Thread(target=lambda text=text: answers.update({text: encoder.encode([text]).tolist()}))
            for text in TEXTS
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert [answers[text][0] for text in TEXTS] == EXPECTED.tolist()


def test_a_system_without_proc_says_where_files_are_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    def listdir(_: str) -> list[str]:
        raise FileNotFoundError

    monkeypatch.setattr(os, "listdir", listdir)
    with pytest.raises(RuntimeError, match=r"^which files ran is seen on Linux only: run the gate there$"):
        foreign_worker._group()


def test_the_worker_is_standard_library_alone() -> None:
    source = Path(foreign_worker.__file__)
    lines = source.read_text(encoding="utf8").splitlines()
    imported = {line.split()[1] for line in lines if line.startswith(("import ", "from "))}
    assert imported <= sys.stdlib_module_names
