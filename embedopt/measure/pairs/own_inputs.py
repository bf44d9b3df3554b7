"""The model of the base, and the texts on which base and head are compared: those that both have."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from embedopt.inference.artifacts.weights import DEFAULT_MODEL, resolve_weights
from embedopt.inference.backend import NO_MODEL
from embedopt.inference.targets import read_targets
from embedopt.measure.corpus import corpus_in, load_corpus
from embedopt.measure.pairs.process_pair import Work

_NAMED_TEXTS, _SHOWN_CHARACTERS = 3, 40


@dataclass(frozen=True, slots=True, kw_only=True)
class BaseInputs:
    """Model and texts of the base's configuration, or the defaults where it names none.

    Attributes:
        model: a folder or name; None for the bundled model.
        is_model_given: whether the command line gives the model, for base and head.
        corpus: file or folder of the texts; None where the command line gives them.
    """

    model: str | None = None
    revision: str | None = None
    is_model_given: bool = True
    corpus: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnInputs:
    """What base and head are asked to do, and the texts that only one of them has, in words.

    Attributes:
        lost: texts that only the base has; empty for none.
        added: texts that only the head has; empty for none.
    """

    work: Work
    lost: str = ""
    added: str = ""


def own_inputs(inputs: BaseInputs, base: Path, work: Work) -> OwnInputs:
    """Give the checkout ``base`` its own model, and both sides their common texts, in the base's order.

    Raises:
        InputError: the base's texts can't be read.
        WeightsError: the base's model is not there.
    """
    work = replace(work, base_model=_base_model(inputs, base, work))
    if inputs.corpus is None:
        return OwnInputs(work=work)
    ours, theirs = work.texts, load_corpus(corpus_in(base, inputs.corpus)).mixed_texts
    known, own = set(theirs), set(ours)
    return OwnInputs(
        work=replace(work, texts=tuple(text for text in theirs if text in own)),
        lost=_some([text for text in theirs if text not in own]),
        added=_some([text for text in ours if text not in known]),
    )


def _base_model(inputs: BaseInputs, base: Path, work: Work) -> str | None:
    """Return the folder of the base's model; None where both sides have the same."""
    name = inputs.model or _model_of_targets(base)
    if inputs.is_model_given or (name is None and work.model is None):
        return None
    if name is not None and (base / name).is_dir():
        return str(base / name)
    trusted = work.trust_remote_code
    return str(resolve_weights(name, inputs.revision, trust_remote_code=trusted).path)


def _model_of_targets(root: Path) -> str | None:
    models = [target.model for target in read_targets(root).values() if target.model != NO_MODEL]
    return next((model for model in models if model != DEFAULT_MODEL), None)


def _some(texts: Sequence[str]) -> str:
    if not texts:
        return ""
    shown = ", ".join(repr(text[:_SHOWN_CHARACTERS]) for text in texts[:_NAMED_TEXTS])
    return f"{len(texts)} texts ({shown}{', ...' if len(texts) > _NAMED_TEXTS else ''})"
