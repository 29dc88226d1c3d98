"""The layout of published checkpoints: one folder in `transformers`, several in a `diffusers` pipeline.

A pipeline has its text encoders in `text_encoder`, `text_encoder_2`, ... and their tokenizers in
`tokenizer`, `tokenizer_2`, ...
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import flax.linen as linen

from jaxflow.nn import attributes
from jaxflow.ranges import quoted

Folder = str | os.PathLike[str]
INDEX = "model_index.json"
"""Of a folder that is a pipeline."""


class TextFolders(NamedTuple):
    """The two folders of a text encoder."""

    encoder: Path
    """Folder of config.json and the weights."""
    tokenizer: Path


def part(folder: Path, name: str) -> Path:
    """The folder of one model of a pipeline, or the folder itself if it is no pipeline but that model."""
    return folder / name if (folder / INDEX).is_file() else folder


def locate(folder: Folder, subfolder: str | None = None) -> TextFolders:
    """The folders of the text encoder in `folder`.

    Args:
        folder: folder of one encoder, or of a pipeline.
        subfolder: encoder of a pipeline; `text_encoder` by default.

    Raises:
        FileNotFoundError: the folder does not exist, or has no config.json.
    """
    root = Path(folder)
    if not root.is_dir():
        raise FileNotFoundError(
            f"folder {str(root)!r} does not exist: put the checkpoint there, nothing is downloaded"
        )
    if subfolder is None and (root / "config.json").is_file():
        return TextFolders(root, root)
    name = "text_encoder" if subfolder is None else subfolder
    if not (root / name / "config.json").is_file():
        where = (
            f"neither config.json nor {name}/config.json" if subfolder is None else f"no {name}/config.json"
        )
        raise FileNotFoundError(f"folder {str(root)!r} has {where}: expected a text encoder or a pipeline")
    return TextFolders(root / name, root / name.replace("text_encoder", "tokenizer"))


def read_json(file: Path) -> dict[str, Any]:
    """The object in a JSON file.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: it does not contain a JSON object.
    """
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise FileNotFoundError(f"{file} does not exist") from None
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{file} is not JSON: {error}") from None
    if not isinstance(content, dict):
        raise ValueError(f"{file} holds a {type(content).__name__}: expected an object")
    return content


def count(file: Path, config: Mapping[str, Any], name: str, default: int | None = None) -> int:
    """A positive whole number in a configuration.

    Raises:
        ValueError: it is missing or something else; the message names the file.
    """
    value = config.get(name, default)
    if type(value) is not int or value < 1:
        raise ValueError(f"{file}: {name} = {quoted(value)}: expected a positive whole number")
    return value


def check_attributes(file: Path, network: linen.Module) -> None:
    """Check the attributes of the module that a configuration describes.

    Raises:
        ValueError: one is out of its bounds; the message names the file.
    """
    try:
        attributes.check(network)
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from None
