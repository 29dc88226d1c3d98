"""Small CLIP folders with random weights, as `transformers` and `diffusers` save them."""

import json

from conftest import Lazy
from tokenizers.pre_tokenizers import ByteLevel

torch, transformers = Lazy("torch"), Lazy("transformers")
START, END = "<|startoftext|>", "<|endoftext|>"
MERGES = [
    *(
        "i n",
        "t h",
        "a n",
        "th e</w>",
        "c a",
        "ca t</w>",
        "an d</w>",
        "in g</w>",
        "' s</w>",
        "o f</w>",
        "p h",
    ),
    *("ph o", "pho t", "phot o</w>", "! !</w>", "Ã ©</w>", "Ã ©", "ð Ł", "ðŁ ĺ", ". .", ".. .</w>"),
]
LETTERS = sorted(ByteLevel.alphabet())
WORDS = [*LETTERS, *(f"{letter}</w>" for letter in LETTERS), *(merge.replace(" ", "") for merge in MERGES)]
VOCABULARY = {word: i for i, word in enumerate(dict.fromkeys([*WORDS, START, END]))}
POSITIONS = 40
TEXTS = [
    "",
    "a photo of the cat",
    "A  Photo\tof\nTHE CAT and  the cat's 3 dogs...",
    "it's, they're, we've, I'm, he'll, she'd, don't ''s",
    "2024 is 1,000.5% of 7½²",
    "caf\u00e9 cafe\u0301 \u00c9T\u00c9 na\u00efve \u0130stanbul \u00df \ufb01",
    "\u65e5\u672c\u8a9e\u306e\u6587 \ud55c\uad6d\uc5b4",
    "\U0001f600\U0001f468\u200d\U0001f469 \u2764\ufe0f !!",
    "hello! wow!!! ?! (the) [cat]_{x} #1 @y",
    f"the {END} cat {START} <|EndOfText|> <|x|>",
    "\u00a0thin\u2009space\u3000 \u0000zero ",
]
NORMALIZED = {"lstrip": False, "normalized": True, "rstrip": False, "single_word": False}
PLAIN = NORMALIZED | {"normalized": False}
NAMED = {"bos_token": START, "eos_token": END, "unk_token": END}
TOKENIZERS = {
    "without": {},
    "stable_diffusion_1": {
        "special_tokens_map": {role: {"content": token, **NORMALIZED} for role, token in NAMED.items()}
        | {"pad_token": END},
        "tokenizer_config": {
            role: {"__type": "AddedToken", "content": token, **NORMALIZED} for role, token in NAMED.items()
        }
        | {"pad_token": END, "tokenizer_class": "CLIPTokenizer", "model_max_length": 77, "errors": "replace"},
    },
    "stable_diffusion_2": {
        "special_tokens_map": {role: {"content": token, **NORMALIZED} for role, token in NAMED.items()}
        | {"pad_token": "!"},
        "tokenizer_config": {"pad_token": END, "tokenizer_class": "CLIPTokenizer"},
    },
    "stable_diffusion_xl_2": {
        "special_tokens_map": NAMED | {"pad_token": "!"},
        "tokenizer_config": NAMED
        | {
            "pad_token": "!",
            "tokenizer_class": "CLIPTokenizer",
            "added_tokens_decoder": {
                "0": {"content": "!", "special": True, **PLAIN},
                str(VOCABULARY[START]): {"content": START, "special": False, **NORMALIZED},
                str(VOCABULARY[END]): {"content": END, "special": False, **PLAIN},
            },
        },
    },
}
TEXT = {
    "vocab_size": len(VOCABULARY),
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "max_position_embeddings": POSITIONS,
    "projection_dim": 24,
    "bos_token_id": VOCABULARY[START],
    "eos_token_id": VOCABULARY[END],
}
VISION = {
    "hidden_size": 16,
    "intermediate_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "image_size": 8,
    "patch_size": 4,
}


def write_tokenizer(folder, name="stable_diffusion_1"):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps(VOCABULARY))
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *MERGES, ""]), encoding="utf-8")
    for file, content in TOKENIZERS[name].items():
        (folder / f"{file}.json").write_text(json.dumps(content))


def disturbed(model):
    """Random weights throughout: initial biases and scales would hide a wrong name."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(0.25 * torch.randn(parameter.shape, generator=generator))
    return model.eval()


def write(folder, kind="CLIPTextModel", tokenizer="stable_diffusion_1", **changes):
    """A folder as `transformers` saves it, and its model."""
    text = TEXT | changes
    if kind == "CLIPModel":
        config = transformers.CLIPConfig(text_config=text, vision_config=VISION, projection_dim=20)
    else:
        config = transformers.CLIPTextConfig(**text)
    model = disturbed(getattr(transformers, kind)(config))
    model.save_pretrained(folder)
    write_tokenizer(folder, tokenizer)
    return model
