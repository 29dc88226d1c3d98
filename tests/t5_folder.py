"""Small T5 folders with random weights, as `transformers` saves them."""

from conftest import Lazy

torch, transformers = Lazy("torch"), Lazy("transformers")

PIECES = [
    "▁",
    "▁the",
    "▁cat",
    "▁a",
    "▁photo",
    "▁of",
    "s",
    "th",
    "e",
    "ing",
    *"abcdefghijklmnopqrstuvwxyz.,!'0123",
]
T5 = {
    "d_model": 32,
    "d_kv": 12,
    "d_ff": 48,
    "num_layers": 3,
    "num_heads": 4,
    "relative_attention_num_buckets": 8,
    "relative_attention_max_distance": 16,
}


def write_tokenizer(folder):
    vocabulary = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0)]
    vocabulary += [
        (piece, -float(len(dict.fromkeys(PIECES)) - i) / 9) for i, piece in enumerate(dict.fromkeys(PIECES))
    ]
    transformers.T5Tokenizer(vocab=vocabulary, extra_ids=10).save_pretrained(folder)


def write(folder, kind="T5EncoderModel", **changes):
    """A folder as `transformers` saves it, and its model with random weights."""
    write_tokenizer(folder)
    model = getattr(transformers, kind)(transformers.T5Config(vocab_size=64, **(T5 | changes))).eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(0.4 * torch.randn(parameter.shape, generator=generator))
    model.save_pretrained(folder)
    return model
