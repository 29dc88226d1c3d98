"""Read the tokenizer files of a checkpoint.

CLIP: the text is normalised to NFC and lower case, with whitespace collapsed, and split into words, single
digits and runs of other characters; the bytes of each piece are merged pair by pair in the order of
merges.txt, with `</w>` at the end of a piece. T5: as tokenizer.json defines it.

Source: Radford et al. 2103.00020, section 2.4; Sennrich et al. 1508.07909.
"""

from pathlib import Path
from typing import Any

import tokenizers
from tokenizers import models, normalizers, pre_tokenizers, processors

from jaxflow.pretrained.folders import read_json
from jaxflow.pretrained.tokenizer import Tokenizer

CLIP_TOKENS = {
    "bos_token": "<|startoftext|>",
    "eos_token": "<|endoftext|>",
    "unk_token": "<|endoftext|>",
    "pad_token": "<|endoftext|>",
}
T5_TOKENS = {"eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"}
CLIP_PIECES = r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"


def read_clip(folder: Path) -> Tokenizer:
    """CLIP's tokenizer, from tokenizer.json, or else from vocab.json and merges.txt.

    Raises:
        FileNotFoundError: one of these files is missing.
        ValueError: a file is damaged, or has no start, end or padding token.
    """
    tokens = _special_tokens(folder, CLIP_TOKENS)
    if (folder / "tokenizer.json").is_file():
        return _tokenizer(folder, _from_file(folder / "tokenizer.json"), tokens)
    missing = [name for name in ("vocab.json", "merges.txt") if not (folder / name).is_file()]
    if missing:
        raise FileNotFoundError(
            f"{folder} has neither tokenizer.json nor {missing[0]}: put the tokenizer's files there"
        )
    return _tokenizer(folder, _byte_pairs(folder, tokens), tokens)


def read_t5(folder: Path) -> Tokenizer:
    """T5's tokenizer, from tokenizer.json.

    Raises:
        FileNotFoundError: it is missing; the message says how to convert spiece.model to it.
        ValueError: it is damaged, or has no end or padding token.
    """
    file = folder / "tokenizer.json"
    if not file.is_file() and (folder / "spiece.model").is_file():
        raise FileNotFoundError(
            f"{folder} has spiece.model, no tokenizer.json: convert it with transformers and sentencepiece:"
            f" AutoTokenizer.from_pretrained({str(folder)!r}).save_pretrained({str(folder)!r})"
        )
    if not file.is_file():
        raise FileNotFoundError(f"{file} does not exist: put the tokenizer there")
    return _tokenizer(folder, _from_file(file), _special_tokens(folder, T5_TOKENS))


def _from_file(file: Path) -> tokenizers.Tokenizer:
    try:
        backend = tokenizers.Tokenizer.from_file(str(file))
    except Exception as error:  # the library raises nothing narrower
        raise ValueError(f"{file} is not a tokenizer: {error}") from None
    backend.no_padding()
    backend.no_truncation()
    return backend


def _byte_pairs(folder: Path, tokens: dict[str, tokenizers.AddedToken]) -> tokenizers.Tokenizer:
    start, end = tokens["bos_token"].content, tokens["eos_token"].content
    try:
        model = models.BPE.from_file(
            str(folder / "vocab.json"),
            str(folder / "merges.txt"),
            unk_token=tokens["unk_token"].content,
            end_of_word_suffix="</w>",
        )
    except Exception as error:  # the library raises nothing narrower
        raise ValueError(f"{folder}: vocab.json and merges.txt are not a BPE model: {error}") from None
    backend = tokenizers.Tokenizer(model)
    ids = [(token, _id(folder, backend, token)) for token in (start, end)]
    backend.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(tokenizers.Regex(r"\s+"), " "), normalizers.Lowercase()]
    )
    pieces = pre_tokenizers.Split(tokenizers.Regex(CLIP_PIECES), behavior="removed", invert=True)
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [pieces, pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    backend.post_processor = processors.TemplateProcessing(single=[start, "$A", end], special_tokens=ids)
    return backend


def _special_tokens(folder: Path, defaults: dict[str, str]) -> dict[str, Any]:
    """The start, end, unknown and padding tokens, and how each is matched in a text.

    As in `transformers`: tokenizer_config.json takes precedence if it lists its added tokens; otherwise the
    older special_tokens_map.json does.
    """
    named = _optional(folder / "tokenizer_config.json")
    listed = named.get("added_tokens_decoder")
    if listed is None:
        named = named | _optional(folder / "special_tokens_map.json")
    added = {token["content"]: token for token in (listed or {}).values()}
    found = {}
    for role, default in defaults.items():
        token = named.get(role) or default
        content = token if isinstance(token, str) else token["content"]
        how = added.get(content, {} if isinstance(token, str) else token)
        flags = ("lstrip", "rstrip", "normalized", "single_word")
        found[role] = tokenizers.AddedToken(
            content, special=True, **{flag: how[flag] for flag in flags if flag in how}
        )
    return found


def _optional(file: Path) -> dict[str, Any]:
    return read_json(file) if file.is_file() else {}


def _tokenizer(
    folder: Path, backend: tokenizers.Tokenizer, tokens: dict[str, tokenizers.AddedToken]
) -> Tokenizer:
    """Special tokens are matched within texts too, as in `transformers`: SDXL's "!" is padding everywhere."""
    end, padding = (_id(folder, backend, tokens[role].content) for role in ("eos_token", "pad_token"))
    known = {token.content for token in backend.get_added_tokens_decoder().values()}
    backend.add_tokens([token for token in tokens.values() if token.content not in known])
    return Tokenizer(backend, end, padding)


def _id(folder: Path, backend: tokenizers.Tokenizer, token: str) -> int:
    number = backend.token_to_id(token)
    if number is None:
        raise ValueError(
            f"{folder}: the vocabulary has no token {token!r}, which is its start, end or padding token"
        )
    return number
