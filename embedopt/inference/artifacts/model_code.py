"""What a model's folder holds and names: files, modules, and Python code that is not the library's."""

import importlib.util
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from embedopt.errors import WeightsError
from embedopt.inference.artifacts.hub import snapshot

# Folder of an artifact that holds the model's own files.
MODEL_FOLDER = "model"
# Folders beside the PyTorch weights that hold other runtimes' files.
OTHER_RUNTIMES = ("onnx", "openvino")
_SKIPPED = frozenset({*OTHER_RUNTIMES, ".git", ".cache", "__pycache__"})


def walk(root: Path, start: str = "") -> Iterator[tuple[str, Path]]:
    """Yield name and path of each file under the folder ``start`` in ``root``, through links as well.

    A name is relative to ``root``. Folders of other runtimes below ``start`` are passed over.
    """
    seen = set()  # a link may lead to a folder around it
    for folder, folders, names in os.walk(root / start, followlinks=True):
        seen.add(os.path.realpath(folder))
        folders[:] = [
            name
            for name in folders
            if name not in _SKIPPED and os.path.realpath(f"{folder}/{name}") not in seen
        ]
        for file in (Path(folder, name) for name in names):
            if file.is_file():
                yield Path(os.path.relpath(file, root)).as_posix(), file


def link_model(model: Path, artifact: Path) -> None:
    """Link the files of a model's folder, but for other runtimes', in the artifact's :data:`MODEL_FOLDER`."""
    others = shutil.ignore_patterns(*OTHER_RUNTIMES, ".git", ".cache")
    shutil.copytree(model.absolute(), artifact / MODEL_FOLDER, ignore=others, copy_function=_link)


def _link(source: str, target: str) -> None:
    try:
        Path(target).symlink_to(source)
    except OSError:  # a file system without links
        shutil.copyfile(source, target)


def module_folders(model: Path) -> list[str]:
    """Return the folders of the modules in ``modules.json``, if it is there, relative to the model's."""
    return [module["path"] for module in read_modules(model) if module.get("path")]


def first_module(model: Path) -> tuple[str, Path]:
    """Return class and folder of the module that reads texts."""
    first = read_modules(model)[0]
    return first["type"].rpartition(".")[2], model / first.get("path", "")


def own_classes(model: Path) -> list[str]:
    """Return the classes of modules that are not sentence-transformers', whose code the library would run."""
    named = [module["type"] for module in read_modules(model)]
    # A Router names the classes of the modules inside it.
    routers = [f"{folder}/router_config.json" for folder in ("", *module_folders(model))]
    older = [f"{folder}/config.json" for folder in module_folders(model)]
    for name in (*routers, *older):
        named += read_json(model / name.removeprefix("/"), {}).get("types", {}).values()
    return [name for name in dict.fromkeys(named) if not name.startswith("sentence_transformers.")]


def code_elsewhere(model: Path) -> dict[str, Path]:
    """Return the files of code outside the model's folder that opening it may run, by name.

    Raises:
        WeightsError: code in another hub repository is out of reach.
    """
    places = {f"{name}--": snapshot(name, allow_patterns="*.py") for name in _repositories(model)}
    for package in {name.partition(".")[0] for name in own_classes(model)}:
        spec = None if (model / f"{package}.py").exists() else importlib.util.find_spec(package)
        for place in (spec.submodule_search_locations or [spec.origin or ""]) if spec else ():
            places[f"{package}/"] = Path(place)
    return {
        f"{place}{name}": file
        for place, folder in places.items()
        for name, file in ([("", folder)] if folder.is_file() else walk(folder))
        if file.suffix == ".py"
    }


def own_prompts(model: Path) -> tuple[dict[str, str], str]:
    """Return the prompts that the model's configuration names, by name, and the default one."""
    config = read_json(model / "config_sentence_transformers.json", {})
    named = {name: prompt or "" for name, prompt in config.get("prompts", {}).items()}  # null is none
    return named, named.get(config.get("default_prompt_name"), "")


def needs_trust(model: Path, which: str = "") -> WeightsError:
    """Return the error of a model that needs code of its own; ``which`` may name it."""
    return WeightsError(
        f"{model} needs Python code that comes with the model{which}; wanted your trust in that code: "
        "read it, then add --trust-remote-code (in Python, trust_remote_code=True)"
    )


def read_modules(model: Path) -> list[dict[str, Any]]:
    """Return the modules in a model's ``modules.json``; a transformer where it names none."""
    file = model / "modules.json"
    modules = read_json(file, []) or [{"type": "sentence_transformers.models.Transformer"}]
    if not isinstance(modules, list) or not all(isinstance(one, dict) and "type" in one for one in modules):
        raise WeightsError(f"{file} lists no modules by type; wanted type and path: fetch the model again")
    return modules


def _repositories(model: Path) -> set[str]:
    """Return the hub repositories whose classes the configuration names, as ``owner/name--file.Class``."""
    configs = [file for _, file in walk(model) if file.name in {"config.json", "tokenizer_config.json"}]
    references = [named for file in configs for named in read_json(file, {}).get("auto_map", {}).values()]
    flat = [one for named in references for one in (named if isinstance(named, list) else [named])]
    return {one.partition("--")[0] for one in flat if one and "--" in one}


def read_json(file: Path, default: Any) -> Any:
    """Return the values in a model's file; ``default`` where there is none."""
    try:
        return json.loads(file.read_text(encoding="utf8")) if file.is_file() else default
    except (OSError, ValueError) as error:
        raise WeightsError(f"{file} can't be read ({error}); wanted JSON: fetch the model again") from error
