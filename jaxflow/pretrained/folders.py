"""Where a checkpoint keeps its parts: one folder of `transformers`, or those of a `diffusers` pipeline.

A pipeline has its text encoders in `text_encoder`, `text_encoder_2`, ... and their tokenizers in
`tokenizer`, `tokenizer_2`, ...
"""

import json
import os
from pathlib import Path
from typing import Any, NamedTuple

Folder = str | os.PathLike[str]


class TextFolders(NamedTuple):
    """The two parts of a text encoder."""

    encoder: Path
    """Has config.json and the weights."""
    tokenizer: Path


def locate(folder: Folder, subfolder: str | None = None) -> TextFolders:
    """The parts of the text encoder in `folder`.

    Args:
        folder: of one encoder, or of a pipeline.
        subfolder: which encoder of a pipeline; `text_encoder` if left out.

    Raises:
        FileNotFoundError: there is no such folder, or no config.json in it.
    """
    root = Path(folder)
    if not root.is_dir():
        raise FileNotFoundError(
            f"folder {str(root)!r} does not exist: put the checkpoint there, none is downloaded"
        )
    if subfolder is None and (root / "config.json").is_file():
        return TextFolders(root, root)
    name = "text_encoder" if subfolder is None else subfolder
    if not (root / name / "config.json").is_file():
        where = (
            f"neither config.json nor {name}/config.json" if subfolder is None else f"no {name}/config.json"
        )
        raise FileNotFoundError(f"folder {str(root)!r} has {where}: one text encoder or a pipeline is needed")
    return TextFolders(root / name, root / name.replace("text_encoder", "tokenizer"))


def read_json(file: Path) -> dict[str, Any]:
    """The object in a JSON file.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it holds no JSON object.
    """
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise FileNotFoundError(f"{file} does not exist") from None
    except ValueError as error:
        raise ValueError(f"{file} is not JSON: {error}") from None
    if not isinstance(content, dict):
        raise ValueError(f"{file} holds a {type(content).__name__}: an object is needed")
    return content
