"""Tiny random models in the layout that sentence-transformers reads."""

from pathlib import Path
from typing import Literal

Pooling = Literal["mean", "cls", "max"]

_WORDS = [
    "a",
    "the",
    "and",
    "for",
    "with",
    "at",
    "in",
    "of",
    "welder",
    "nurse",
    "driver",
    "baker",
    "night",
    "day",
    "shift",
    "zurich",
    "java",
    "python",
    "c",
    "++",
    ",",
    ".",
    "%",
    "80",
]


def make_model(folder: Path, pooling: Pooling = "mean", *, normalize: bool = True, prompt: str = "") -> Path:
    """Write a random BERT of two layers and 32 dimensions, 24 tokens at the most, into ``folder``."""
    import torch
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer import modules
    from transformers import BertConfig, BertModel, BertTokenizerFast

    letters = [chr(code) for code in range(ord("a"), ord("z") + 1)]
    vocabulary = [
        "[PAD]",
        "[UNK]",
        "[CLS]",
        "[SEP]",
        "[MASK]",
        *_WORDS,
        *letters,
        *(f"##{x}" for x in letters),
    ]
    words = folder / "bert"
    words.mkdir()
    (words / "vocab.txt").write_text("\n".join(dict.fromkeys(vocabulary)), encoding="utf8")
    tokenizer = BertTokenizerFast(  # type: ignore[no-untyped-call]  # transformers has no types
        str(words / "vocab.txt")
    )
    torch.manual_seed(0)
    config = BertConfig(  # type: ignore[no-untyped-call]  # likewise
        vocab_size=len(tokenizer),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=32,
        initializer_range=0.4,  # far from collapse, so that two texts differ
    )
    BertModel(config).save_pretrained(words)  # type: ignore[no-untyped-call]  # likewise
    tokenizer.save_pretrained(words)
    transformer = modules.Transformer(str(words), max_seq_length=24)
    stack = [transformer, modules.Pooling(32, pooling_mode=pooling)]
    model = SentenceTransformer(
        modules=[*stack, modules.Normalize()] if normalize else stack,
        device="cpu",
        prompts={"search": prompt} if prompt else None,
        default_prompt_name="search" if prompt else None,
    )
    model.save_pretrained(str(folder / "model"), create_model_card=False)
    return folder / "model"
