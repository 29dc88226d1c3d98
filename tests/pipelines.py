"""Small pipelines of diffusers with random weights, and their folders."""

import json

import clip_folder
import t5_folder
from conftest import Lazy

torch, diffusers, transformers = Lazy("torch"), Lazy("diffusers"), Lazy("transformers")

SIDE = 8
"""Of the latents."""
NARROW = {"hidden_size": 12, "num_attention_heads": 2}
"""Two of these CLIPs are narrower than T5."""
UNET = {
    "sample_size": SIDE,
    "block_out_channels": (8, 16),
    "layers_per_block": 1,
    "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
    "cross_attention_dim": clip_folder.TEXT["hidden_size"],
    "norm_num_groups": 4,
}
XL = {
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
    "attention_head_dim": [2, 4],
    "transformer_layers_per_block": [1, 2],
    "cross_attention_dim": 2 * clip_folder.TEXT["hidden_size"],
    "use_linear_projection": True,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 8,
    "projection_class_embeddings_input_dim": clip_folder.TEXT["projection_dim"] + 6 * 8,
}
MMDIT = {
    "sample_size": SIDE,
    "num_layers": 3,
    "attention_head_dim": 8,
    "num_attention_heads": 2,
    "caption_projection_dim": 16,
    "joint_attention_dim": t5_folder.T5["d_model"],
    "pooled_projection_dim": 2 * clip_folder.TEXT["projection_dim"],
    "pos_embed_max_size": 6,
}
FLUX = {
    "in_channels": 64,
    "num_layers": 2,
    "num_single_layers": 2,
    "attention_head_dim": 16,
    "num_attention_heads": 2,
    "joint_attention_dim": t5_folder.T5["d_model"],
    "pooled_projection_dim": NARROW["hidden_size"],
    "axes_dims_rope": (4, 6, 6),
}
VAE = {"down_block_types": ["DownEncoderBlock2D"] * 2, "up_block_types": ["UpDecoderBlock2D"] * 2}


def autoencoder(channels=4, **options):
    """An AutoencoderKL, half as large as its images."""
    options = {"scaling_factor": 0.18215} | options
    made = diffusers.AutoencoderKL(
        block_out_channels=(4, 4), norm_num_groups=2, latent_channels=channels, **options, **VAE
    )
    return made.eval()


def table(kind="DDIMScheduler", **options):
    """The scheduler of a Stable Diffusion."""
    named = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}
    return getattr(diffusers, kind)(**named, steps_offset=1, timestep_spacing="trailing", **options)


def texts(folder, kind, *changes):
    """CLIPs and their tokenizers, as arguments of a pipeline; the second pads with another token."""
    made = {}
    for i, change in enumerate(changes):
        end = f"_{i + 1}" if i else ""
        tokenizer = "stable_diffusion_xl_2" if i else "stable_diffusion_1"
        made[f"text_encoder{end}"] = clip_folder.write(folder / f"clip{end}", kind, tokenizer, **change)
        made[f"tokenizer{end}"] = transformers.CLIPTokenizer.from_pretrained(
            folder / f"clip{end}", model_max_length=clip_folder.POSITIONS
        )
    return made


def stable_diffusion(folder, prediction="epsilon", **options):
    """A StableDiffusionPipeline."""
    return _saved(
        folder,
        diffusers.StableDiffusionPipeline(
            **texts(folder, "CLIPTextModel", {}),
            vae=autoencoder(),
            unet=clip_folder.disturbed(diffusers.UNet2DConditionModel(**UNET | options)),
            scheduler=table(clip_sample=False, prediction_type=prediction),
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
        ),
    )


def stable_diffusion_xl(folder):
    """A StableDiffusionXLPipeline."""
    both = texts(folder, "CLIPTextModelWithProjection", {}, {"hidden_act": "gelu"})
    unet = clip_folder.disturbed(diffusers.UNet2DConditionModel(**UNET | XL))
    scheduler = table(clip_sample=False)
    return _saved(
        folder,
        diffusers.StableDiffusionXLPipeline(
            vae=autoencoder(scaling_factor=0.13025),
            unet=unet,
            scheduler=scheduler,
            add_watermarker=False,
            **both,
        ),
    )


def stable_diffusion_3(folder, *, with_t5=True, **options):
    """A StableDiffusion3Pipeline."""
    both = texts(folder, "CLIPTextModelWithProjection", NARROW, NARROW)
    third = {"text_encoder_3": None, "tokenizer_3": None}
    if with_t5:
        third["text_encoder_3"] = t5_folder.write(folder / "t5", feed_forward_proj="gated-gelu")
        third["tokenizer_3"] = transformers.T5Tokenizer.from_pretrained(folder / "t5")
    return _saved(
        folder,
        diffusers.StableDiffusion3Pipeline(
            vae=autoencoder(16, scaling_factor=1.5305, shift_factor=0.0609),
            transformer=clip_folder.disturbed(diffusers.SD3Transformer2DModel(**MMDIT | options)),
            scheduler=diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0),
            **both,
            **third,
        ),
    )


def flux(folder, **options):
    """A FluxPipeline."""
    first = texts(folder, "CLIPTextModel", NARROW)
    second = t5_folder.write(folder / "t5", feed_forward_proj="gated-gelu")
    return _saved(
        folder,
        diffusers.FluxPipeline(
            vae=autoencoder(16, scaling_factor=0.3611, shift_factor=0.1159),
            transformer=clip_folder.disturbed(diffusers.FluxTransformer2DModel(**FLUX | options)),
            scheduler=diffusers.FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True),
            text_encoder_2=second,
            tokenizer_2=transformers.T5Tokenizer.from_pretrained(folder / "t5"),
            **first,
        ),
    )


def dit(folder):
    """A DiTPipeline, with the names of the first classes."""
    torch.manual_seed(0)
    transformer = diffusers.DiTTransformer2DModel(
        num_attention_heads=2,
        attention_head_dim=8,
        in_channels=4,
        out_channels=8,
        num_layers=2,
        sample_size=SIDE,
        num_embeds_ada_norm=1000,  # the number of the null class is written into the pipeline
        norm_num_groups=4,
        norm_eps=1e-6,
    ).eval()
    for leaf in transformer.parameters():
        torch.nn.init.normal_(leaf, std=0.25)
    copies = transformer.transformer_blocks[0].norm1.emb.state_dict()
    transformer.transformer_blocks[1].norm1.emb.load_state_dict(copies)
    scheduler = diffusers.DDIMScheduler(clip_sample=False, timestep_spacing="trailing")
    pipeline = diffusers.DiTPipeline(transformer, autoencoder(scaling_factor=0.25), scheduler)
    made, place = _saved(folder, pipeline)
    index = json.loads((place / "model_index.json").read_text())
    names = {"0": "tench, Tinca tinca", "1": "goldfish", "2": "crane"}  # as published
    (place / "model_index.json").write_text(json.dumps(index | {"id2label": names}))
    return made, place


def edited(theirs, kind, **options):
    """Data, noise and latents of a pipeline of this kind, with the models of `theirs`; and its scheduler.

    The latents are what it makes of the data in that noise, in ten steps at w = 7.5.
    """
    pipe = getattr(diffusers, kind)(**theirs.components)
    pipe.set_progress_bar_config(disable=True)
    shape = (1, theirs.vae.config.latent_channels, SIDE, SIDE)
    noise, data = (torch.randn(shape, generator=torch.Generator().manual_seed(seed)) for seed in (1, 2))
    common = {"guidance_scale": 7.5, "num_inference_steps": 10, "output_type": "latent"}
    generator = torch.Generator().manual_seed(1)
    latents = pipe("the cat", image=data, generator=generator, **common, **options).images
    return *(part.permute(0, 2, 3, 1).numpy() for part in (data, noise, latents)), pipe.scheduler


def _saved(folder, pipeline):
    """The pipeline and its folder; the tokenizers as their publishers save them."""
    place = folder / "pipeline"
    pipeline.save_pretrained(place)
    for name, kind in (("tokenizer", "stable_diffusion_1"), ("tokenizer_2", "stable_diffusion_xl_2")):
        if (place / name / "vocab.json").is_file():
            clip_folder.write_tokenizer(place / name, kind)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline, place
