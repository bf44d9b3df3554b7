"""Texts become the inputs of a graph as the model's settings say."""

from pathlib import Path

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers

from embedopt.inference.artifacts.layout import TOKENIZER_FILE, TextSettings, copy_without_graph, graph_inputs

_SETTINGS = TextSettings(dim=2, max_length=3, pad_id=7, prompt="5 ")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An artifact whose tokenizer gives each number as its own token."""
    tokenizer = Tokenizer(models.WordLevel({str(number): number for number in range(9)}, unk_token="0"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.enable_padding(length=9)  # the model's own settings override it
    source = tmp_path / "source"
    source.mkdir()
    tokenizer.save(str(source / TOKENIZER_FILE))
    _SETTINGS.save(source)
    return source


def test_settings_are_read_as_they_were_saved(folder: Path) -> None:
    assert TextSettings.read(folder) == _SETTINGS


def test_inputs_have_the_prompt_are_cut_and_are_padded_in_their_batch(folder: Path) -> None:
    first, second = graph_inputs(folder, [["1 2 3 4", ""], ["6"]])
    assert first["input_ids"].tolist() == [[5, 1, 2], [5, 7, 7]]
    assert first["attention_mask"].tolist() == [[1, 1, 1], [1, 0, 0]]
    assert second["input_ids"].tolist() == [[5, 6]]


@pytest.mark.parametrize(
    ("prompt", "unpooled", "mask"),
    [("", 0, [[1, 1, 1], [1, 0, 0]]), ("5 ", 1, [[2, 1, 1], [2, 0, 0]]), ("5 8 ", 1, [[2, 1, 1], [2, 0, 0]])],
)
def test_a_prompt_that_is_not_pooled_is_2_in_the_mask(
    folder: Path, prompt: str, unpooled: int, mask: list[list[int]]
) -> None:
    """A special token at the end of a prompt is not counted, since the text stands before it."""
    settings = TextSettings(dim=2, max_length=3, pad_id=7, prompt="", pools_prompt=False, special_ids=[8])
    tokenizer = Tokenizer.from_file(str(folder / TOKENIZER_FILE))
    settings.configure(tokenizer)
    assert settings.unpooled(tokenizer, prompt) == unpooled
    assert settings.pad([[5, 1, 2], [5]], unpooled)[1].tolist() == mask


def test_a_copy_leaves_the_graph_and_the_manifest_out(folder: Path, tmp_path: Path) -> None:
    for name in ("model.onnx", "manifest.json"):
        (folder / name).write_text("", encoding="utf8")
    copy_without_graph(folder, tmp_path / "target")
    assert sorted(file.name for file in (tmp_path / "target").iterdir()) == ["text.json", "tokenizer.json"]


def test_texts_without_a_token_are_a_column_of_padding() -> None:
    ids, mask = _SETTINGS.pad([[], []])
    assert (ids.tolist(), mask.tolist()) == ([[7], [7]], [[0], [0]])
