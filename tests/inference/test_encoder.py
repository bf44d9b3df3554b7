"""What every encoder refuses, and how it is closed."""

import pytest

from embedopt.errors import EmbedoptError, InputError
from embedopt.inference.encoder import TokenizedText, check_texts
from tests.fakes import DIM, FakeEncoder


@pytest.mark.parametrize(
    ("value", "named"),
    [(None, "None"), (3, "of type int"), (b"bytes", "of type bytes"), (["a"], "of type list")],
)
def test_what_is_no_string_is_refused_by_its_index(value: object, named: str) -> None:
    with pytest.raises(InputError) as caught:
        FakeEncoder().encode(["fine", value])  # type: ignore[list-item]  # what is tested
    assert str(caught.value) == f"text 1 is {named}; wanted str: convert it or leave it out"


def test_a_single_string_is_refused() -> None:
    with pytest.raises(InputError, match="texts is a single string; wanted a list of strings"):
        FakeEncoder().encode("a text")


def test_a_lone_surrogate_is_refused_by_its_index() -> None:
    with pytest.raises(InputError, match="text 2 has a lone surrogate at character 3; wanted valid Unicode"):
        check_texts(["a", "é", "abc\ud800"])


def test_any_valid_unicode_passes() -> None:
    texts = ["", " ", "\x00", "日本語", "👩‍🔧", "e\u0301", "\U0010ffff", "\u2028"]
    assert check_texts(texts) == texts


def test_batch_size_is_at_least_one() -> None:
    with pytest.raises(InputError, match="batch_size is 0; wanted 1 or more"):
        FakeEncoder().encode(["a"], batch_size=0)
    with pytest.raises(InputError, match="batch_size is -1; wanted 1 or more"):
        FakeEncoder().plan(["a"], batch_size=-1)


def test_no_texts_give_an_empty_array() -> None:
    embeddings = FakeEncoder().encode([])
    assert embeddings.shape == (0, DIM)
    assert embeddings.dtype == "float32"


def test_an_encoder_that_tokenizes_while_it_encodes_counts_tokens_and_encodes_one_batch() -> None:
    encoder = FakeEncoder()
    texts = encoder.tokenize(["a b", "c"])
    assert texts == [TokenizedText("a b", 4), TokenizedText("c", 3)]
    assert encoder.encode_tokenized(texts).tolist() == encoder.encode(["a b", "c"]).tolist()
    assert encoder.calls == [["a b", "c"], ["a b", "c"]]
    assert encoder.encode_tokenized([]).shape == (0, DIM)


def test_a_closed_encoder_says_so() -> None:
    """Closing twice is harmless, and releases once."""
    with FakeEncoder("onnx-int8") as encoder:
        encoder.encode(["a"])
    encoder.close()
    assert encoder.released == 1
    for call in (encoder.encode, encoder.plan, encoder.token_counts):
        with pytest.raises(EmbedoptError, match="the encoder onnx-int8 is closed; open it again with"):
            call(["a"])
    with pytest.raises(EmbedoptError, match="the encoder onnx-int8 is closed"):
        encoder.encode_tokenized([])


def test_counting_and_planning_refuse_what_encoding_refuses() -> None:
    for call in (FakeEncoder().plan, FakeEncoder().token_counts):
        with pytest.raises(InputError, match="text 1 is None; wanted str"):
            call(["a", None])  # type: ignore[list-item]  # what is tested
