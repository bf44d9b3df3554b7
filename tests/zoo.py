"""A zoo of tiny random models, of the kinds and layouts that people have, each made in milliseconds.

A model is an architecture, a tokenizer, the modules behind the transformer, and what was done to its files.
"""

import fnmatch
import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from transformers import PretrainedConfig

# Name and arguments of a module behind the transformer.
Module = tuple[str, Mapping[str, Any]]
HIDDEN = 32
LIMIT = 24
_WORDS = (
    *"abc",
    "the",
    "and",
    "in",
    "of",
    "welder",
    "nurse",
    "driver",
    "night",
    "day",
    "zurich",
    "java",
    "+",
    ",",
)
_LETTERS = [chr(code) for code in range(ord("a"), ord("z") + 1)]
_CHARACTERS = [*_LETTERS, *(letter.upper() for letter in _LETTERS), *"0123456789:"]
_TYPES = "sentence_transformers.models"

_LIKE_BERT = {
    "hidden_size": HIDDEN,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "max_position_embeddings": 40,
    "initializer_range": 0.3,  # large enough for two texts to differ clearly
}
_LIKE_MISTRAL = {**_LIKE_BERT, "num_key_value_heads": 1, "head_dim": 16, "max_position_embeddings": 512}


@dataclass(frozen=True)
class Architecture:
    """A class of transformers' models.

    Attributes:
        name: the common part of the names of configuration and model.
        config: arguments of the configuration.
        special: special tokens, by the names of transformers.
        template: special tokens around a text, in the syntax of tokenizers' ``TemplateProcessing``.
        model: kind of tokenizer.
        suffix: the model's class is ``name`` and this.
    """

    name: str
    config: Mapping[str, Any]
    special: Mapping[str, str]
    template: str
    model: str = "wordpiece"
    suffix: str = "Model"


_BERT_SPECIAL = {
    "pad_token": "[PAD]",
    "unk_token": "[UNK]",
    "cls_token": "[CLS]",
    "sep_token": "[SEP]",
    "mask_token": "[MASK]",
}
_ROBERTA_SPECIAL = {"bos_token": "<s>", "pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}
_T5_SPECIAL = {"pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}
_GEMMA_SPECIAL = {"pad_token": "<pad>", "eos_token": "<eos>", "bos_token": "<bos>", "unk_token": "<unk>"}
_QWEN_SPECIAL = {"pad_token": "<|endoftext|>", "eos_token": "<|im_end|>", "unk_token": "<|unk|>"}
_IN_BERT, _IN_ROBERTA = "[CLS] $A [SEP]", "<s> $A </s>"

BERT = Architecture("Bert", _LIKE_BERT, _BERT_SPECIAL, _IN_BERT)
ROBERTA = Architecture("Roberta", {**_LIKE_BERT, "pad_token_id": 1}, _ROBERTA_SPECIAL, _IN_ROBERTA, "bytes")
DISTILBERT = Architecture(
    "DistilBert",
    {
        "dim": HIDDEN,
        "hidden_dim": 64,
        "n_layers": 2,
        "n_heads": 2,
        "max_position_embeddings": 40,
        "initializer_range": 0.3,
    },
    _BERT_SPECIAL,
    _IN_BERT,
)
GPT2 = Architecture(
    "GPT2",
    {"n_embd": HIDDEN, "n_layer": 2, "n_head": 2, "n_positions": 40, "initializer_range": 0.3},
    {"eos_token": "<|endoftext|>", "pad_token": "<|pad|>"},
    "$A",
    "bytes",
)
MISTRAL = Architecture("Mistral", _LIKE_MISTRAL, _ROBERTA_SPECIAL, "<s> $A </s>", "unigram")
QWEN3 = Architecture("Qwen3", _LIKE_MISTRAL, _QWEN_SPECIAL, "$A <|endoftext|>", "bytes")
T5 = Architecture(
    "T5",
    {"d_model": HIDDEN, "d_kv": 16, "d_ff": 64, "num_layers": 2, "num_heads": 2},
    _T5_SPECIAL,
    "$A </s>",
    "unigram",
    "EncoderModel",
)
ARCHITECTURES = (
    BERT,
    DISTILBERT,
    ROBERTA,
    GPT2,
    MISTRAL,
    QWEN3,
    T5,
    Architecture("MPNet", {**_LIKE_BERT, "pad_token_id": 1}, _ROBERTA_SPECIAL, _IN_ROBERTA),
    Architecture("XLMRoberta", {**_LIKE_BERT, "pad_token_id": 1}, _ROBERTA_SPECIAL, _IN_ROBERTA, "unigram"),
    Architecture("Albert", {**_LIKE_BERT, "embedding_size": 16}, _BERT_SPECIAL, _IN_BERT, "unigram"),
    Architecture("Deberta", _LIKE_BERT, _BERT_SPECIAL, _IN_BERT),
    Architecture(
        "DebertaV2",
        {**_LIKE_BERT, "relative_attention": True, "pos_att_type": ["p2c", "c2p"], "position_buckets": 8},
        _BERT_SPECIAL,
        _IN_BERT,
        "unigram",
    ),
    Architecture("Electra", {**_LIKE_BERT, "embedding_size": 16}, _BERT_SPECIAL, _IN_BERT),
    Architecture(
        "ModernBert",
        {**_LIKE_BERT, "local_attention": 8, "reference_compile": False},
        _BERT_SPECIAL,
        _IN_BERT,
        "bytes",
    ),
    Architecture(
        "Gemma3Text",
        {**_LIKE_MISTRAL, "sliding_window": 8, "use_bidirectional_attention": True},
        _GEMMA_SPECIAL,
        "<bos> $A <eos>",
        "unigram",
    ),
)


@dataclass(frozen=True, kw_only=True)
class Model:
    """How one model of the zoo is made.

    Attributes:
        name: what is peculiar about it.
        architecture: its transformer and tokenizer.
        modules: what follows the transformer: name of the module and its arguments.
        config: changes to ``config.json`` before the weights are made.
        sentence_config: content of ``sentence_bert_config.json``.
        tokenizer_config: changes to ``tokenizer_config.json``.
        library_config: content of ``config_sentence_transformers.json``.
        subfolder: folder of the transformer.
        change: what was done to the folder at last.
        refused: words of the message by which every backend refuses it; empty for a sound model.
        refused_by: the same for backends, by patterns of their names.
        texts: number of the texts that are tried; the library fails on the others.
        is_tried_everywhere: whether it is tried on every backend, or on the fast ones only.
    """

    name: str
    architecture: Architecture = BERT
    modules: Sequence[Module] = (
        ("Pooling", {"pooling_mode": "mean"}),
        ("Normalize", {}),
    )
    config: Mapping[str, Any] = field(default_factory=dict)
    sentence_config: Mapping[str, Any] = field(default_factory=lambda: {"max_seq_length": LIMIT})
    tokenizer_config: Mapping[str, Any] = field(default_factory=dict)
    library_config: Mapping[str, Any] = field(default_factory=dict)
    subfolder: str = ""
    change: Callable[[Path], object] = lambda _: None
    refused: str = ""
    refused_by: Mapping[str, str] = field(default_factory=dict)
    texts: int | None = None
    is_tried_everywhere: bool = False

    @property
    def prompts(self) -> Sequence[str | None]:
        """The names of its prompts, and None for its default prompt."""
        return [None, *self.library_config.get("prompts", {})]

    def refusal_by(self, backend: str) -> str:
        """Return words of the message by which a backend refuses the model; empty if it answers."""
        named = {"static-fp32": "the model is made of Transformer", **self.refused_by}
        words = [words for pattern, words in named.items() if fnmatch.fnmatch(backend, pattern)]
        return "|".join([*words, *([self.refused] if self.refused else [])])

    def write(self, folder: Path) -> Path:
        """Write the model into ``folder``, and return it."""
        transformer = folder / self.subfolder
        transformer.mkdir(parents=True)
        _write_transformer(transformer, self.architecture, self.config)
        _update(transformer / "tokenizer_config.json", self.tokenizer_config)
        _update(transformer / "sentence_bert_config.json", self.sentence_config)
        _update(folder / "config_sentence_transformers.json", self.library_config)
        _write_modules(folder, self.subfolder, self.modules)
        self.change(folder)
        return folder


def _update(file: Path, changes: Mapping[str, Any]) -> None:
    values = json.loads(file.read_text(encoding="utf8")) if file.exists() else {}
    file.write_text(json.dumps({**values, **changes}), encoding="utf8")


def _write_transformer(folder: Path, architecture: Architecture, changes: Mapping[str, Any]) -> None:
    import torch
    import transformers

    tokenizer = make_tokenizer(architecture)
    special = {name: token for name, token in architecture.special.items() if changes.get(name, token)}
    fast = transformers.PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]  # transformers has no types
        tokenizer_object=tokenizer, model_input_names=["input_ids", "attention_mask"], **special
    )
    fast.save_pretrained(folder)
    config: PretrainedConfig = getattr(transformers, f"{architecture.name}Config")(
        **{"vocab_size": len(fast), "pad_token_id": fast.pad_token_id, **architecture.config, **changes}
    )
    torch.manual_seed(0)
    model = getattr(transformers, architecture.name + architecture.suffix)(config)
    model.save_pretrained(folder)


def make_tokenizer(architecture: Architecture) -> "Tokenizer":
    """Return a tokenizer with the words, letters and special tokens of the zoo."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

    special = list(architecture.special.values())
    unknown = architecture.special.get("unk_token")
    if architecture.model == "wordpiece":
        tokens = dict.fromkeys([*special, *_WORDS, *_CHARACTERS, *(f"##{token}" for token in _CHARACTERS)])
        vocabulary = {token: index for index, token in enumerate(tokens)}
        tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token=unknown))
        tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
        tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    elif architecture.model == "bytes":
        alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
        vocabulary = {token: index for index, token in enumerate([*special, *alphabet, "th", "er"])}
        tokenizer = Tokenizer(models.BPE(vocabulary, [("t", "h"), ("e", "r")]))
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    else:
        pieces = dict.fromkeys([*special, "▁", *(f"▁{word}" for word in _WORDS), *_CHARACTERS])
        scored = [(piece, -float(index)) for index, piece in enumerate(pieces)]
        tokenizer = Tokenizer(models.Unigram(scored, unk_id=special.index(str(unknown))))
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.add_special_tokens(special)
    around = [token for token in architecture.template.split() if token != "$A"]
    if around:
        tokenizer.post_processor = processors.TemplateProcessing(
            single=architecture.template,
            special_tokens=[(token, tokenizer.token_to_id(token)) for token in around],
        )
    return tokenizer


def _write_modules(folder: Path, subfolder: str, modules: Sequence[Module]) -> None:
    import torch
    from sentence_transformers.sentence_transformer import modules as library

    torch.manual_seed(1)
    rows = [{"idx": 0, "name": "0", "path": subfolder, "type": f"{_TYPES}.Transformer"}]
    for index, (name, arguments) in enumerate(modules, start=1):
        path = f"{index}_{name}"
        (folder / path).mkdir()
        given = {"embedding_dimension": HIDDEN, **arguments} if name == "Pooling" else arguments
        getattr(library, name)(**given).save(str(folder / path))
        rows.append({"idx": index, "name": str(index), "path": path, "type": f"{_TYPES}.{name}"})
    (folder / "modules.json").write_text(json.dumps(rows), encoding="utf8")


# What was done to files.


def _without(*names: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        for name in names:
            path = folder / name
            shutil.rmtree(path) if path.is_dir() else path.unlink()

    return change


def _with_tensors(edit: Callable[[dict[str, Any]], object]) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        from safetensors.torch import load_file, save_file

        file = folder / "model.safetensors"
        tensors = {name: tensor.clone() for name, tensor in load_file(file).items()}
        edit(tensors)
        save_file(tensors, file, {"format": "pt"})

    return change


def _lose(part: str) -> Callable[[dict[str, Any]], None]:
    def edit(tensors: dict[str, Any]) -> None:
        for name in [name for name in tensors if part in name]:
            del tensors[name]

    return edit


def _poison(tensors: dict[str, Any]) -> None:
    tensors["encoder.layer.0.attention.self.query.weight"][:] = float("nan")


def _silence_channels(tensors: dict[str, Any]) -> None:
    """Make most channels of the first layer's output 0."""
    for part in ("weight", "bias"):
        tensors[f"encoder.layer.0.output.LayerNorm.{part}"][4:] = 0.0


def _in_old_layout(change: Callable[[Path], object]) -> Callable[[Path], object]:
    return lambda folder: change(folder / "0_Transformer")


def _lose_pad_token(folder: Path) -> None:
    _update(folder / "special_tokens_map.json", {"pad_token": None})
    _update(folder / "config.json", {"pad_token_id": None})


def _truncate(folder: Path) -> None:
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-1000])


def _shard(folder: Path) -> None:
    from transformers import AutoModel

    AutoModel.from_pretrained(folder).save_pretrained(folder, max_shard_size="20KB")
    (folder / "model.safetensors").unlink()


def _as_bin(folder: Path) -> None:
    import torch
    from safetensors.torch import load_file

    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()


def _as_sharded_bin(folder: Path) -> None:
    import torch
    from safetensors.torch import load_file

    tensors = load_file(folder / "model.safetensors")
    names = sorted(tensors)
    shards = {f"pytorch_model-0000{index + 1}-of-00002.bin": names[index::2] for index in range(2)}
    for shard, members in shards.items():
        torch.save({name: tensors[name] for name in members}, folder / shard)
    index = {"metadata": {}, "weight_map": {name: shard for shard in shards for name in shards[shard]}}
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps(index), encoding="utf8")
    (folder / "model.safetensors").unlink()


def _as_float16(tensors: dict[str, Any]) -> None:
    for name in tensors:
        tensors[name] = tensors[name].half()


def _static(
    folder: Path, *modules: tuple[str, Mapping[str, Any]], subfolder: str = "0_StaticEmbedding"
) -> None:
    """Write a model that looks tokens up in a table, in place of the transformer."""
    import torch
    from sentence_transformers.sentence_transformer import modules as library

    config = (folder / "config_sentence_transformers.json").read_bytes()
    shutil.rmtree(folder)
    path = folder / subfolder
    path.mkdir(parents=True)

    torch.manual_seed(2)
    tokenizer = make_tokenizer(BERT)
    library.StaticEmbedding(tokenizer, embedding_dim=HIDDEN).save(str(path))
    (folder / "config_sentence_transformers.json").write_bytes(config)
    _write_modules(folder, subfolder, modules)
    rows = json.loads((folder / "modules.json").read_text(encoding="utf8"))
    rows[0]["type"] = f"{_TYPES}.StaticEmbedding"
    (folder / "modules.json").write_text(json.dumps(rows), encoding="utf8")


def _pooled(*modes: str, **arguments: Any) -> tuple[Module, ...]:
    mode: str | tuple[str, ...] = modes if len(modes) > 1 else modes[0]
    return (("Pooling", {"pooling_mode": mode, **arguments}),)


_MEAN = _pooled("mean")
_DENSE = ("Dense", {"in_features": HIDDEN, "out_features": 16})
_LEFT = {"padding_side": "left"}
_NO_LIMIT = {"model_max_length": 10**30}
_PROMPTS = {"prompts": {"query": "nurse: ", "passage": "the java of "}}
_NULL_PROMPTS = {"prompts": {"query": None, "corpus": None}, "default_prompt_name": "query"}
_DEFAULT_PROMPT = {**_PROMPTS, "default_prompt_name": "query"}
# Our pipelines plan batches of their own, and so refuse a model whose embeddings depend on the padding.
_PIPELINES = ("torch-bf16", "onnx-*")
_ON_PADDING = dict.fromkeys(_PIPELINES, "depends on the padding of its batch")
_ON_TOKENS = dict.fromkeys(_PIPELINES, "processing_kwargs")
_NO_TABLE = {
    **dict.fromkeys((*_PIPELINES, "st-onnx-*"), "first module is StaticEmbedding"),
    "static-fp32": "",
}
_BY_ARCHITECTURE: Mapping[str, Mapping[str, str]] = {
    "Deberta": {"torch-bf16": "dtype"},
    "T5": {"st-onnx-*": "asks for tensors that the model does without"},
    # The library's export takes positions that it does not give.
    "Qwen3": {"st-onnx-*": "position_ids"},
}
# What sentence-transformers adds to a folder of transformers.
_OF_THE_LIBRARY = (
    *("modules.json", "1_Pooling", "2_Normalize"),
    *("sentence_bert_config.json", "config_sentence_transformers.json"),
)
_CHAT = "{% for m in messages %}[CLS] {{ m['content'] }} [SEP]{% endfor %}"

MODELS = (
    *(
        Model(
            name=architecture.name,
            architecture=architecture,
            is_tried_everywhere=architecture in (BERT, T5, QWEN3),
            refused_by=_BY_ARCHITECTURE.get(architecture.name, {}),
        )
        for architecture in ARCHITECTURES
    ),
    *(
        Model(name=f"{architecture.name}-{mode}", architecture=architecture, modules=_pooled(mode))
        for architecture in (BERT, ROBERTA, MISTRAL, QWEN3)
        for mode in ("cls", "max", "mean_sqrt_len_tokens", "weightedmean", "lasttoken")
    ),
    Model(name="two-poolings", is_tried_everywhere=True, modules=_pooled("mean", "cls")),
    Model(
        name="three-poolings-dense",
        modules=(*_pooled("mean", "max", "cls"), ("Dense", {"in_features": 96, "out_features": 16})),
    ),
    Model(name="dense", is_tried_everywhere=True, modules=(*_MEAN, _DENSE)),
    Model(name="dense-normalize", modules=(*_MEAN, _DENSE, ("Normalize", {}))),
    Model(name="two-dense", modules=(*_MEAN, _DENSE, ("Dense", {"in_features": 16, "out_features": 8}))),
    Model(name="dense-gemma", architecture=ARCHITECTURES[-1], modules=(*_MEAN, _DENSE, ("Normalize", {}))),
    Model(name="dense-t5", architecture=T5, modules=(*_MEAN, _DENSE, ("Normalize", {}))),
    Model(
        name="layer-norm", is_tried_everywhere=True, modules=(*_MEAN, ("LayerNorm", {"dimension": HIDDEN}))
    ),
    Model(name="dropout", modules=(*_MEAN, ("Dropout", {"dropout": 0.2}))),
    Model(name="no-normalize", modules=_MEAN),
    Model(name="prompts", is_tried_everywhere=True, library_config=_PROMPTS),
    Model(name="null-prompts", library_config=_NULL_PROMPTS),
    Model(name="default-prompt", is_tried_everywhere=True, library_config=_DEFAULT_PROMPT),
    *(
        Model(
            name=f"default-prompt-not-pooled-{mode}",
            is_tried_everywhere=mode == "mean",
            library_config=_DEFAULT_PROMPT,
            modules=_pooled(mode, include_prompt=False),
        )
        for mode in ("mean", "cls", "max", "mean_sqrt_len_tokens", "weightedmean", "lasttoken")
    ),
    *(
        Model(
            name=f"{architecture.name}-prompts-not-pooled",
            architecture=architecture,
            library_config={"prompts": {**_PROMPTS["prompts"], "special": special}},
            modules=_pooled("mean", include_prompt=False),
        )
        for architecture, special in ((BERT, "nurse: [SEP]"), (ROBERTA, "nurse </s>"), (GPT2, "a: "))
    ),
    Model(
        name="prompt-not-pooled-left",
        architecture=QWEN3,
        library_config=_DEFAULT_PROMPT,
        tokenizer_config={"truncation_side": "left", **_LEFT},
        modules=_pooled("mean", "lasttoken", include_prompt=False),
    ),
    Model(name="default-prompt-cls", library_config=_DEFAULT_PROMPT, modules=_pooled("cls")),
    Model(name="default-prompt-roberta", architecture=ROBERTA, library_config=_DEFAULT_PROMPT),
    Model(name="truncate-dim", is_tried_everywhere=True, library_config={"truncate_dim": 16}),
    Model(name="truncate-dim-no-normalize", library_config={"truncate_dim": 8}, modules=_MEAN),
    Model(name="truncate-dim-dense", library_config={"truncate_dim": 8}, modules=(*_MEAN, _DENSE)),
    Model(name="truncate-dim-beyond", library_config={"truncate_dim": 4 * HIDDEN}),
    *(
        Model(
            name=f"{architecture.name}-left-padding",
            architecture=architecture,
            tokenizer_config=_LEFT,
            refused_by=_ON_PADDING if architecture in (BERT, GPT2) else {},
        )
        for architecture in (BERT, ROBERTA, T5, GPT2, MISTRAL, QWEN3, ARCHITECTURES[-1])
    ),
    *(
        Model(
            name=f"{architecture.name}-left-padding-{mode}",
            refused_by=refused_by,
            architecture=architecture,
            tokenizer_config=_LEFT,
            modules=_pooled(mode),
        )
        for architecture, mode, refused_by in (
            (QWEN3, "lasttoken", {}),
            (MISTRAL, "weightedmean", _ON_PADDING),
        )
    ),
    Model(
        name="Bert-left-padding-cls",
        is_tried_everywhere=True,
        refused_by=_ON_PADDING,
        tokenizer_config=_LEFT,
        modules=_pooled("cls"),
    ),
    *(
        Model(
            name=f"{architecture.name}-left-truncation",
            architecture=architecture,
            tokenizer_config={"truncation_side": "left"},
        )
        for architecture in (BERT, ROBERTA, QWEN3)
    ),
    Model(
        name="both-left",
        architecture=QWEN3,
        tokenizer_config={"truncation_side": "left", **_LEFT},
        modules=_pooled("lasttoken"),
    ),
    Model(name="split-special-tokens", tokenizer_config={"split_special_tokens": True}),
    Model(name="added-token", tokenizer_config={"additional_special_tokens": ["[CLS]", "welder"]}),
    Model(
        name="lower-case",
        architecture=ROBERTA,
        sentence_config={"max_seq_length": LIMIT, "do_lower_case": True},
    ),
    Model(name="lower-case-bert", sentence_config={"max_seq_length": LIMIT, "do_lower_case": True}),
    Model(name="no-limit", sentence_config={}, tokenizer_config=_NO_LIMIT),
    Model(
        name="no-limit-roberta", texts=3, architecture=ROBERTA, sentence_config={}, tokenizer_config=_NO_LIMIT
    ),
    Model(name="no-limit-t5", architecture=T5, sentence_config={}, tokenizer_config=_NO_LIMIT),
    Model(name="no-limit-mistral", architecture=MISTRAL, sentence_config={}, tokenizer_config=_NO_LIMIT),
    Model(name="limit-none", sentence_config={"max_seq_length": None}, tokenizer_config=_NO_LIMIT),
    Model(name="limit-beyond-positions", sentence_config={"max_seq_length": 512}),
    *(
        Model(
            name=f"limit-beyond-positions-{architecture.name}",
            texts=3,
            architecture=architecture,
            sentence_config={"max_seq_length": 512},
        )
        for architecture in (ROBERTA, GPT2)
    ),
    Model(name="limit-of-tokenizer", sentence_config={}, tokenizer_config={"model_max_length": 12}),
    Model(
        name="few-positions",
        is_tried_everywhere=True,
        refused_by={"st-onnx-*": "must match the size"},  # it traces the model with longer texts
        config={"max_position_embeddings": 6},
        sentence_config={"max_seq_length": 6},
    ),
    Model(name="limit-2", sentence_config={"max_seq_length": 3}),
    Model(name="old-layout", subfolder="0_Transformer"),
    Model(name="old-layout-roberta", architecture=ROBERTA, subfolder="0_RoBERTa"),
    Model(name="plain-folder", change=_without(*_OF_THE_LIBRARY)),
    Model(name="plain-folder-mistral", architecture=MISTRAL, change=_without(*_OF_THE_LIBRARY)),
    Model(name="sharded", change=_shard),
    Model(name="bin", change=_as_bin),
    Model(name="sharded-bin", change=_as_sharded_bin),
    Model(name="float16", change=_with_tensors(_as_float16), config={"torch_dtype": "float16"}),
    Model(name="bfloat16-named", config={"torch_dtype": "bfloat16"}),
    Model(name="no-pooler", change=_with_tensors(_lose("pooler"))),
    Model(name="chat-template", tokenizer_config={"chat_template": _CHAT}),
    Model(
        name="messages",
        refused="Modality .text. is not supported",
        architecture=QWEN3,
        tokenizer_config={"chat_template": _CHAT},
        sentence_config={
            "max_seq_length": LIMIT,
            "modality_config": {
                "message": {"method": "forward", "method_output_name": "last_hidden_state", "format": "flat"}
            },
            "module_output_name": "token_embeddings",
        },
    ),
    Model(
        name="processing-max-length",
        refused_by=_ON_TOKENS,
        sentence_config={"max_seq_length": LIMIT, "processing_kwargs": {"text": {"max_length": 8}}},
    ),
    Model(
        name="processing-no-special-tokens",
        refused_by=_ON_TOKENS,
        sentence_config={
            "max_seq_length": LIMIT,
            "processing_kwargs": {"text": {"add_special_tokens": False}},
        },
    ),
    Model(name="one-layer-albert-cls", architecture=ARCHITECTURES[9], modules=_pooled("cls")),
    Model(name="channels-of-zeros", change=_with_tensors(_silence_channels)),
    Model(name="static", is_tried_everywhere=True, refused_by=_NO_TABLE, change=_static),
    Model(
        name="static-normalize",
        refused_by=_NO_TABLE,
        change=lambda folder: _static(folder, ("Normalize", {})),
    ),
    Model(
        name="static-dense",
        refused_by={**_NO_TABLE, "static-fp32": "made of StaticEmbedding, Dense"},
        change=lambda folder: _static(folder, _DENSE),
    ),
    Model(name="static-root", refused_by=_NO_TABLE, change=lambda folder: _static(folder, subfolder="")),
    Model(name="static-prompt", refused_by=_NO_TABLE, library_config=_DEFAULT_PROMPT, change=_static),
    Model(name="static-null-prompts", refused_by=_NO_TABLE, library_config=_NULL_PROMPTS, change=_static),
    Model(
        name="static-truncate-dim", refused_by=_NO_TABLE, library_config={"truncate_dim": 8}, change=_static
    ),
    Model(
        name="missing-layer",
        is_tried_everywhere=True,
        change=_with_tensors(_lose("layer.1.")),
        refused="encoder.layer.1",
    ),
    Model(
        name="missing-embeddings", change=_with_tensors(_lose("word_embeddings")), refused="word_embeddings"
    ),
    Model(
        name="missing-layer-old-layout",
        subfolder="0_Transformer",
        config={"num_hidden_layers": 2},
        change=_in_old_layout(_with_tensors(_lose("layer.1."))),
        refused="encoder.layer.1",
    ),
    Model(name="nan", is_tried_everywhere=True, change=_with_tensors(_poison), refused="NaN"),
    Model(
        name="no-tokenizer",
        change=_without("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"),
        refused="tokenizer.json",
    ),
    Model(name="no-weights", change=_without("model.safetensors"), refused="model.safetensors"),
    Model(name="no-config", change=_without("config.json"), refused="config.json"),
    Model(name="truncated", change=_truncate, refused="model.safetensors|Safetensor"),
    Model(
        name="no-dense-weights",
        modules=(*_MEAN, _DENSE),
        change=_without("2_Dense/model.safetensors"),
        refused="Could not find .model.safetensors",
    ),
    Model(
        name="no-pad-token",
        architecture=GPT2,
        tokenizer_config={"pad_token": None},
        change=_lose_pad_token,
        refused="pad",
    ),
)
