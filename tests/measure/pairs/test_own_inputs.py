"""Base and head have models of their own, and are compared on the texts that both have."""

from pathlib import Path

import pytest

from embedopt.errors import InputError
from embedopt.inference.artifacts.weights import resolve_weights
from embedopt.measure.corpus import mixed
from embedopt.measure.pairs.own_inputs import BaseInputs, OwnInputs, own_inputs
from embedopt.measure.pairs.process_pair import Work

CORPUS = Path("texts.txt")


def _base(folder: Path, *texts: str) -> Path:
    (folder / CORPUS).write_text("\n".join(texts), encoding="utf8")
    return folder


def _own(folder: Path, *ours: str) -> OwnInputs:
    return own_inputs(BaseInputs(corpus=CORPUS), folder, Work(texts=ours))


def test_equal_corpora_keep_the_order_of_the_base(tmp_path: Path) -> None:
    texts = [f"text {number}" for number in range(9)]
    own = _own(_base(tmp_path, *texts), *sorted(texts))
    assert own == OwnInputs(work=Work(texts=mixed(texts)))


def test_texts_that_only_one_side_has_are_named_and_left_out(tmp_path: Path) -> None:
    own = _own(_base(tmp_path, "a", "b", "slow 1", "slow 2", "slow 3", "slow 4"), "a", "b", "new")
    assert sorted(own.work.texts) == ["a", "b"]
    assert own.lost.startswith("4 texts ('slow ")
    assert own.lost.endswith("', ...)")
    assert own.added == "1 texts ('new')"


def test_texts_of_the_command_line_are_those_of_both(tmp_path: Path) -> None:
    own = own_inputs(BaseInputs(), tmp_path, Work(texts=("a",)))
    assert own == OwnInputs(work=Work(texts=("a",)))


def test_a_corpus_that_the_base_lacks_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"texts.txt: no such file or directory; wanted"):
        _own(tmp_path, "a")


def _model_of_base(base: Path, inputs: BaseInputs, model: str | None) -> str | None:
    return own_inputs(inputs, base, Work(texts=("a",), model=model)).work.base_model


def test_a_model_in_a_folder_of_the_repository_is_that_of_each_checkout(tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    named = BaseInputs(model="models", is_model_given=False)
    assert _model_of_base(tmp_path, named, "/head/models") == str(tmp_path / "models")


def test_a_base_that_names_no_model_has_the_bundled_one(tmp_path: Path) -> None:
    nothing = BaseInputs(is_model_given=False)
    assert _model_of_base(tmp_path, nothing, "/head/models") == str(resolve_weights().path)
    assert _model_of_base(tmp_path, nothing, None) is None


def test_a_model_of_the_command_line_is_that_of_both(tmp_path: Path) -> None:
    assert _model_of_base(tmp_path, BaseInputs(), "/any/model") is None
