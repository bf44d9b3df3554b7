"""A corpus is read as it is, and a line that can't be used is named."""

import gzip
import hashlib
import json
from pathlib import Path

import pytest

from embedopt.errors import InputError
from embedopt.inference.loading import load_encoder
from embedopt.measure.corpus import Corpus, load_corpus

OURS = Path(__file__).parents[2] / "benchmarks" / "corpus"


def _file(tmp_path: Path, content: str | bytes, name: str = "texts.jsonl") -> Path:
    file = tmp_path / name
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    return file


def test_each_line_of_a_text_file_is_a_text(tmp_path: Path) -> None:
    """Blank lines are left out by default; a lone CR or a line separator of Unicode stays inside its text."""
    file = _file(tmp_path, "\ufeffone\r\n\r\n  two \nth\u2028r\ree\n", "texts.txt")
    assert load_corpus(file) == Corpus("texts.txt", ("one", "  two ", "th\u2028r\ree"), {})
    assert load_corpus(file, keep_blank=True).texts == ("one", "", "  two ", "th\u2028r\ree")


def test_json_lines_may_have_judgements(tmp_path: Path) -> None:
    lines = '{"id": 1, "text": "nurse"}\n{"text": "no id"}\n{"id": "q", "text": "care", "relevant": [1]}\n'
    corpus = load_corpus(_file(tmp_path, lines))
    assert corpus.texts == ("nurse", "no id", "care")
    assert corpus.relevant == {2: (0,)}
    assert corpus.candidates == (0, 1)


def test_queries_are_searched_where_one_answers_another(tmp_path: Path) -> None:
    """Duplicate questions; a text that is named twice counts once, and the query itself never."""
    lines = (
        '{"id": 0, "text": "how?", "relevant": [1, 1, 0]}\n'
        '{"id": 1, "text": "by what means?", "relevant": [0]}\n'
        '{"id": 2, "text": "when?", "relevant": [2]}\n'
    )
    corpus = load_corpus(_file(tmp_path, lines))
    assert corpus.relevant == {0: (1,), 1: (0,), 2: ()}
    assert corpus.candidates == (0, 1, 2)
    assert corpus.judged_queries == (0, 1)


def test_a_folder_is_its_files_in_order(tmp_path: Path) -> None:
    _file(tmp_path, '{"id": "q", "text": "query", "relevant": ["a"]}', "2.jsonl")
    _file(tmp_path, '{"id": "a", "text": "answer"}', "1.jsonl")
    _file(tmp_path, "not a corpus", "README.md")
    assert load_corpus(tmp_path) == Corpus(tmp_path.name, ("answer", "query"), {1: (0,)})


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "has no texts; wanted a text a line, or JSON lines with a text field"),
        ('{"text": "a"}\n{"text": ', "texts.jsonl:2: not JSON"),
        ('{"words": "a"}', "texts.jsonl:1: text is missing; wanted a string of valid Unicode, as in {"),
        ('{"text": 3}', "texts.jsonl:1: text is 3; wanted a string of valid Unicode, as in {"),
        ('{"text": "a\\ud800"}', "texts.jsonl:1: text is 'a\\ud800'; wanted a string of valid Unicode"),
        ("[1]", "texts.jsonl:1: text is missing; wanted a string"),
        (
            '{"text": "a", "relevant": "b"}',
            "texts.jsonl:1: relevant is 'b'; wanted a list of the ids of the texts that answer",
        ),
        ('{"text": "a", "relevant": ["b"]}', "texts.jsonl:1: relevant names id 'b'; wanted the id of a line"),
        ('{"id": 1, "text": "a"}\n{"id": "1", "text": "b"}', "texts.jsonl:2: id '1' was used before"),
        (b"\xff\xfe", "is not UTF-8 at byte 0: save it as UTF-8"),
        (
            gzip.compress(b"a", mtime=0),
            "texts.jsonl is a gzip file; wanted a text file or JSON lines: unpack it",
        ),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, content: str | bytes, message: str) -> None:
    with pytest.raises(InputError) as caught:
        load_corpus(_file(tmp_path, content))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match=r"nowhere\.txt: no such file or directory; wanted a text file or JSON lines"
    ):
        load_corpus(tmp_path / "nowhere.txt")
    with pytest.raises(InputError, match=r"is a folder without \.jsonl files"):
        load_corpus(tmp_path)


def test_the_digest_depends_on_texts_and_judgements_but_not_on_the_name() -> None:
    digests = {
        Corpus("a", ("x", "y")).digest,
        Corpus("a", ("y", "x")).digest,
        Corpus("a", ("x", "y"), {0: (1,)}).digest,
    }
    assert len(digests) == 3
    assert Corpus("b", ("x", "y")).digest == Corpus("a", ("x", "y")).digest


def _texts(name: str) -> list[str]:
    lines = (OURS / name).read_text(encoding="utf8").splitlines()
    return [json.loads(line)["text"] for line in lines]


def test_our_corpus_has_enough_texts_of_all_lengths() -> None:
    """At least 600 listings and 150 queries of 3 to 60 tokens, all different, each query with answers."""
    corpus = load_corpus(OURS)
    listings, queries = _texts("listings.jsonl"), _texts("queries.jsonl")
    assert (len(listings) >= 600, len(queries) >= 150) == (True, True)
    assert corpus.texts == (*listings, *queries)
    assert len({text.casefold() for text in corpus.texts}) == len(corpus.texts)
    assert sorted(corpus.relevant) == list(range(len(listings), len(corpus.texts)))
    assert all(relevant and max(relevant) < len(listings) for relevant in corpus.relevant.values())
    with load_encoder("torch-fp32") as encoder:
        counts = encoder.token_counts(corpus.texts)
    assert (counts.min() - 2, counts.max()) >= (3, 3)  # without the two special tokens
    assert counts.max() <= 60


@pytest.mark.parametrize(
    ("name", "lines", "digest"),
    [
        ("listings.jsonl", 644, "a1aa2b97bf83f79793ce8f1cb07119f0d7bde5a2ca18d045ce09371014ee3073"),
        ("queries.jsonl", 161, "9f737031585ba9e481b99e2613ecc79dcc2755dce4710d4f284508af07639160"),
    ],
)
def test_our_corpus_is_frozen_and_only_grows(name: str, lines: int, digest: str) -> None:
    """Scores of different days are comparable, since lines are appended and never changed."""
    frozen = (OURS / name).read_bytes().split(b"\n")[:lines]
    assert hashlib.sha256(b"\n".join(frozen)).hexdigest() == digest


def test_requests_are_the_queries_or_all_texts_without_any() -> None:
    texts = ("a", "b", "c", "d")
    assert sorted(Corpus("c", texts, {1: (0,), 3: (2,)}).request_texts) == ["b", "d"]
    assert sorted(Corpus("c", texts).request_texts) == list(texts)
