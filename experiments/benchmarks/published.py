"""Memory and time of an image from a published model of full size, with random weights.

    python -m experiments.benchmarks.published NAME [--steps 2] [--size H W] [--dtype bfloat16]

NAME is stable_diffusion, stable_diffusion_xl, stable_diffusion_3 or dit. A process of its own first writes
the pipeline, with the names and shapes of the classes of diffusers and transformers (extra `reference`), as
16-bit safetensors into a temporary folder of up to 16 GB. Then it is loaded as users load theirs, and one
image is sampled twice, with guidance and a prompt.
"""

import json
import multiprocessing
import re
import shutil
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import tyro

import jaxflow
from experiments.cli import refusing, script
from jaxflow import ranges
from jaxflow.nn.attributes import Dtype

CLIP_L = {"hidden_size": 768, "intermediate_size": 3072, "num_attention_heads": 12, "projection_dim": 768}
CLIP_G: dict[str, Any] = {
    **{"hidden_size": 1280, "intermediate_size": 5120, "num_attention_heads": 20, "projection_dim": 1280},
    **{"num_hidden_layers": 32, "hidden_act": "gelu"},
}
T5_XXL: dict[str, Any] = {
    **{"d_model": 4096, "d_ff": 10240, "num_layers": 24, "num_heads": 64, "d_kv": 64},
    **{"feed_forward_proj": "gated-gelu", "vocab_size": 32128, "tie_word_embeddings": False},
}
VAE: dict[str, Any] = {
    "block_out_channels": [128, 256, 512, 512],
    "down_block_types": ["DownEncoderBlock2D"] * 4,
    "up_block_types": ["UpDecoderBlock2D"] * 4,
    "layers_per_block": 2,
}
XL: dict[str, Any] = {
    "sample_size": 128,
    "block_out_channels": [320, 640, 1280],
    "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"],
    "up_block_types": ["CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"],
    "attention_head_dim": [5, 10, 20],
    "transformer_layers_per_block": [1, 2, 10],
    "cross_attention_dim": 2048,
    "use_linear_projection": True,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 256,
    "projection_class_embeddings_input_dim": 2816,
}
MMDIT: dict[str, Any] = {
    **{"num_layers": 24, "num_attention_heads": 24, "caption_projection_dim": 1536, "sample_size": 128},
    "pos_embed_max_size": 192,
}
DIT: dict[str, Any] = {
    **{"num_layers": 28, "num_attention_heads": 16, "attention_head_dim": 72, "sample_size": 32},
    **{"in_channels": 4, "out_channels": 8, "num_embeds_ada_norm": 1000},
}
TABLE = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}
Parts = dict[str, tuple[str, dict[str, Any]]]
PIPELINES: dict[str, tuple[str, Parts, dict[str, Any]]] = {
    "stable_diffusion": (
        "StableDiffusionPipeline",
        {
            "unet": ("UNet2DConditionModel", {"sample_size": 64, "cross_attention_dim": 768}),
            "text_encoder": ("CLIPTextModel", CLIP_L),
            "vae": ("AutoencoderKL", VAE | {"scaling_factor": 0.18215}),
        },
        TABLE,
    ),
    "stable_diffusion_xl": (
        "StableDiffusionXLPipeline",
        {
            "unet": ("UNet2DConditionModel", XL),
            "text_encoder": ("CLIPTextModel", CLIP_L),
            "text_encoder_2": ("CLIPTextModelWithProjection", CLIP_G),
            "vae": ("AutoencoderKL", VAE | {"scaling_factor": 0.13025}),
        },
        TABLE,
    ),
    "stable_diffusion_3": (
        "StableDiffusion3Pipeline",
        {
            "transformer": ("SD3Transformer2DModel", MMDIT),
            "text_encoder": ("CLIPTextModelWithProjection", CLIP_L),
            "text_encoder_2": ("CLIPTextModelWithProjection", CLIP_G),
            "text_encoder_3": ("T5EncoderModel", T5_XXL),
            "vae": (
                "AutoencoderKL",
                VAE
                | {"latent_channels": 16, "use_quant_conv": False, "use_post_quant_conv": False}
                | {"scaling_factor": 1.5305, "shift_factor": 0.0609},
            ),
        },
        {"_class_name": "FlowMatchEulerDiscreteScheduler", "shift": 3.0},
    ),
    "dit": (
        "DiTPipeline",
        {
            "transformer": ("DiTTransformer2DModel", DIT),
            "vae": ("AutoencoderKL", VAE | {"scaling_factor": 0.18215}),
        },
        {"beta_schedule": "linear"},
    ),
}
"""Class of the pipeline, class and configuration of each part, and the scheduler's configuration."""
SHARD = 2 * 10**9
"""Most bytes in a file, beyond which there are several."""
PROMPT = "a red bicycle in the snow"


@dataclass(frozen=True)
class Arguments:
    """Command line of the script."""

    name: tyro.conf.Positional[
        Literal["stable_diffusion", "stable_diffusion_xl", "stable_diffusion_3", "dit"]
    ]
    steps: int = 2
    """Steps of the default solver, DPM-Solver++ 2M, or of Euler's for a flow: one guided evaluation each."""
    size: tuple[int, int] | None = None
    """Height and width of the image; by default those of the training."""
    dtype: Dtype = "bfloat16"
    """Of network and text encoders; the autoencoder is float32."""


def main(argv: list[str] | None = None) -> None:
    """Load once and sample twice, with and without compilation."""
    a = tyro.cli(Arguments, args=argv, prog="python -m experiments.benchmarks.published")
    with refusing():
        ranges.at_least(1, steps=a.steps)
    folder = Path(tempfile.mkdtemp(prefix="jaxflow-"))
    try:
        writing = multiprocessing.get_context("spawn").Process(target=write, args=(folder, a.name))
        writing.start()
        writing.join()
        if writing.exitcode:
            raise SystemExit(writing.exitcode)
        measure(folder, a)
    finally:
        shutil.rmtree(folder)


def measure(folder: Path, a: Arguments) -> None:
    """Print what the model in the folder takes."""
    begin = time.perf_counter()
    model = jaxflow.load(folder, dtype=a.dtype, size=a.size)
    loading = time.perf_counter() - begin
    count = sum(leaf.size for leaf in jax.tree.leaves(model.params))
    shape = " x ".join(map(str, model.space.image_shape))
    print(f"{a.name}: {count:,} parameters in {a.dtype}, {shape}, {a.steps} steps; JAX {jax.__version__}")
    print(f"loading {loading:.1f} s, peak memory {peak():.1f} GiB")
    y: Any = [7] if a.name == "dit" else [PROMPT]
    begin = time.perf_counter()
    jax.block_until_ready(model.encode(y))
    encoding = time.perf_counter() - begin
    seconds = []
    for seed in range(2):
        begin = time.perf_counter()
        solver = "euler" if model.prediction == "velocity" else None
        images = model.sample(seed, y, w=7.5, steps=a.steps, solver=solver)
        seconds.append(time.perf_counter() - begin)
    begin = time.perf_counter()
    jax.block_until_ready(model.to_images(jnp.zeros((1, *model.event_shape))))
    decoding = time.perf_counter() - begin
    print(f"image {images.shape}; compilation and first prompts {encoding + seconds[0] - seconds[1]:.1f} s")
    each = (seconds[1] - decoding) / a.steps
    print(f"a guided step {each:.1f} s, decoding {decoding:.1f} s; peak memory {peak():.1f} GiB")


def write(folder: Path, name: str) -> None:
    """Write a pipeline with random weights."""
    import diffusers
    import torch
    import transformers

    kind, parts, scheduler = PIPELINES[name]
    index: dict[str, Any] = {"_class_name": kind}
    for part, (made, options) in parts.items():
        of_text = part.startswith("text_encoder")
        with torch.device("meta"):
            if of_text:
                config = transformers.T5Config if made.startswith("T5") else transformers.CLIPTextConfig
                model = getattr(transformers, made)(config(**options))
            else:
                model = getattr(diffusers, made)(**options)
        place = folder / part
        place.mkdir()
        (model.config if of_text else model).save_pretrained(place) if of_text else model.save_config(place)
        write_weights(place, {key: tuple(leaf.shape) for key, leaf in model.state_dict().items()})
        if of_text:
            write_tokenizer(folder / part.replace("text_encoder", "tokenizer"), made)
        index[part] = ["transformers" if of_text else "diffusers", made]
    (folder / "model_index.json").write_text(json.dumps(index))
    (folder / "scheduler").mkdir()
    (folder / "scheduler" / "scheduler_config.json").write_text(json.dumps(scheduler))


def write_weights(place: Path, shapes: dict[str, tuple[int, ...]]) -> None:
    """Random numbers of 16 bits in files of at most `SHARD` bytes, with an index."""
    from safetensors.numpy import save_file

    rng, size = np.random.default_rng(0), 0
    written: dict[str, str] = {}
    shard: dict[str, np.ndarray] = {}
    noise = (0.02 * rng.standard_normal(2**20, np.float32)).astype(jnp.bfloat16)
    last = [*shapes][-1]
    for key, shape in shapes.items():
        first = re.sub(
            r"^transformer_blocks\.\d+\.norm1\.emb\.", "", key
        )  # copies in DiT, equal by their start
        start = sum(map(ord, first)) % 1000
        n = int(np.prod(shape))
        shard[key] = np.resize(noise[start:], n).reshape(shape)
        size += 2 * n
        if size > SHARD or key == last:
            file = f"model-{len(set(written.values()))}.safetensors"
            save_file(shard, place / file)
            written |= dict.fromkeys(shard, file)
            shard, size = {}, 0
    (place / "model.safetensors.index.json").write_text(json.dumps({"weight_map": written}))


def write_tokenizer(place: Path, kind: str) -> None:
    """A tokenizer of letters, and of the ends that the encoder expects."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    place.mkdir()
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    if kind.startswith("T5"):
        pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), *((letter, -1.0) for letter in letters)]
        Tokenizer(models.Unigram(pieces, unk_id=2)).save(str(place / "tokenizer.json"))
        return
    vocabulary = {token: i for i, token in enumerate([*letters, *(f"{letter}</w>" for letter in letters)])}
    vocabulary |= {"<|startoftext|>": 49406, "<|endoftext|>": 49407}
    (place / "vocab.json").write_text(json.dumps(vocabulary))
    (place / "merges.txt").write_text("#version: 0.2\n")


def peak() -> float:
    """Most memory that the process had, in GiB; nan where the system does not tell."""
    status = Path("/proc/self/status")
    found = re.search(r"VmHWM:\s+(\d+) kB", status.read_text()) if status.exists() else None
    return int(found[1]) / 2**20 if found else float("nan")


if __name__ == "__main__":
    script(main)
