"""Captions in files next to the images.

Either a file of text for each image, NAME.txt, NAME.caption, NAME.jpg.txt or NAME.jpg.caption next to
NAME.jpg, or a table metadata.jsonl or metadata.csv with the columns `file_name`, the path from the table's
folder, and `text` or `caption` (as in Hugging Face's `imagefolder`). A folder has captions of one of these
kinds only.
"""

import csv
import json
import posixpath
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from io import TextIOWrapper
from typing import Any

from jaxflow.data.names import UNPRINTABLE, shown
from jaxflow.places import Place

SUFFIXES = (".txt", ".caption")
TABLES = ("metadata.jsonl", "metadata.csv")
KINDS = "NAME.txt, NAME.caption, NAME.jpg.txt, metadata.jsonl and metadata.csv"
"""For messages."""
COLUMNS = ("text", "caption")
MOST_BYTES = 2**16
"""Of a file with one caption."""


@dataclass(frozen=True)
class Sidecars:
    """Captions of images, by the images' paths in the folder, and where they were found."""

    captions: dict[str, str]
    files: set[str]
    """Files that were read."""
    notes: list[str] = field(default_factory=list)


def read_captions(images: Iterable[str], files: Mapping[str, Place], noun: str = "image") -> Sidecars:
    """The captions of images, as far as there are any.

    Args:
        images: their paths in the folder.
        files: all files of the folder, by their paths in it.
        noun: what they are, for the messages.

    Raises:
        ValueError: a caption is empty, too long or not UTF-8, an image has two, or there are captions of two
            kinds; the message names the file.
    """
    images = list(images)
    found = {kind: texts for kind, texts in _texts(images, files).items() if texts}
    tables = {name: table for name in files if (table := _table(name, files[name])) is not None}
    notes = [
        f"{shown(name)} is ignored: its first row has no 'file_name' and 'text'"
        for name in files
        if posixpath.basename(name) in TABLES and name not in tables
    ]
    kinds = [*found, *sorted({posixpath.basename(name) for name in tables})]
    if len(kinds) > 1:
        raise ValueError(f"captions are given twice, as {kinds[0]} and as {kinds[1]}: keep one kind")
    texts = next(iter(found.values()), {})
    captions = {image: _read(file, files[file], noun) for image, file in texts.items()}
    for name, table in tables.items():
        notes += _add(captions, name, table, set(images), noun)
    return Sidecars(captions, {*texts.values(), *tables}, notes)


def cleaned(text: str) -> str:
    """A caption in one line, normalised to NFC, with whitespace and control characters as single spaces."""
    signs = (" " if unicodedata.category(sign) in UNPRINTABLE else sign for sign in text)
    return " ".join(unicodedata.normalize("NFC", "".join(signs)).split())


def _texts(images: list[str], files: Mapping[str, Place]) -> dict[str, dict[str, str]]:
    """For each kind the images with such a file, and its path; the case may differ if there is only one."""
    folded: dict[str, list[str]] = {}
    for name in files:
        if name.lower().endswith(SUFFIXES):
            folded.setdefault(name.casefold(), []).append(name)
    found: dict[str, dict[str, str]] = {}
    for image in images if folded else ():
        for base, shape in ((posixpath.splitext(image)[0], "NAME"), (image, "NAME.jpg")):
            for suffix in SUFFIXES:
                alike = folded.get((base + suffix).casefold(), [])
                exact = [name for name in alike if posixpath.splitext(name)[0] == base]
                if len(chosen := exact or alike) == 1:
                    found.setdefault(shape + suffix, {})[image] = chosen[0]
    return found


def _read(name: str, file: Place, noun: str) -> str:
    with file.open("rb") as stream:
        content = stream.read(MOST_BYTES + 1)
    if len(content) > MOST_BYTES:
        raise ValueError(
            f"caption {shown(name)} has more than {MOST_BYTES:,} bytes: shorten it, or remove it"
        )
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = "\0"
    if "\0" in text:
        raise ValueError(f"caption {shown(name)} is not UTF-8: save it as UTF-8")
    if not (caption := cleaned(text)):
        raise ValueError(f"caption {shown(name)} is empty: write one, or remove the file and its {noun}")
    return caption


def _table(name: str, file: Place) -> list[tuple[int, Any]] | None:
    """The numbered rows of a table of captions; None if it is something else."""
    if posixpath.basename(name) not in TABLES:
        return None
    try:
        with file.open("rb") as stream, TextIOWrapper(stream, "utf-8-sig", newline="") as lines:
            rows = list(_rows(lines, name))
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{shown(name)} cannot be read, {shown(error)}: save it as UTF-8") from None
    return rows if rows and _pair(rows[0][1]) is not None else None


def _rows(lines: Iterable[str], name: str) -> Iterator[tuple[int, Any]]:
    if name.endswith(".csv"):
        yield from enumerate(csv.DictReader(lines), 2)
        return
    for number, line in enumerate(lines, 1):
        if line.strip():
            try:
                yield number, json.loads(line)
            except (ValueError, RecursionError):
                raise ValueError(f"{shown(name)}, line {number}: expected a JSON object") from None


def _pair(row: Any) -> tuple[str, str] | None:
    """The file and the caption in a row of a table."""
    if not isinstance(row, dict):
        return None
    text = next((row[column] for column in COLUMNS if column in row), None)
    file = row.get("file_name")
    return (file, text) if isinstance(file, str) and isinstance(text, str) else None


def _add(
    captions: dict[str, str], name: str, table: list[tuple[int, Any]], images: set[str], noun: str
) -> Iterator[str]:
    """Add the captions of a table; a note of those without an image."""
    missing = 0
    for number, row in table:
        pair, where = _pair(row), f"{shown(name)}, row {number}"
        caption = None if pair is None else cleaned(pair[1])
        if pair is None or not caption:
            raise ValueError(f"{where}: expected a 'file_name' and a 'text'")
        path = posixpath.normpath(posixpath.join(posixpath.dirname(name), pair[0]))
        image = unicodedata.normalize("NFC", path)
        if image in captions:
            raise ValueError(f"{where}: {shown(image)} has two captions: keep one")
        if image in images:
            captions[image] = caption
        missing += image not in images
    if missing:
        yield f"{shown(name)} names {missing} {noun}s that are not in the folder"
