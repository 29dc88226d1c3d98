"""Image encoders against transformers, from uint8 images to features, on the same random weights."""

import json
import os

os.environ["HF_HUB_OFFLINE"] = "1"

import clip_folder
import jax
import numpy as np
import pytest
from conftest import Lazy, assert_close

from jaxflow.devices import mesh
from jaxflow.evaluation.clip_score import clip_score
from jaxflow.nn.vision import bicubic
from jaxflow.pretrained import clip, clip_images, dinov2, preprocessing
from jaxflow.pretrained.tensors import name_of, rewritten

torch, transformers, safetensors = Lazy("torch"), Lazy("transformers"), Lazy("safetensors.torch")
VISION = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "image_size": 16,
    "patch_size": 4,
}


def pictures(n, h, w, c, seed=0):
    """Smooth in one half and noisy in the other, so that resizing under- and overshoots."""
    images = np.random.default_rng(seed).integers(0, 256, (n, h, w, c), np.uint8)
    images[:, :, : w // 2] = np.linspace(0, 255, h, dtype=np.uint8)[:, None, None]
    return images


def inputs(processor, images):
    """What a processor of transformers makes of images."""
    return processor(list(np.broadcast_to(images, (*images.shape[:3], 3))), return_tensors="pt").pixel_values


def write_clip(folder, kind="CLIPModel", **changes):
    """A folder as transformers saves it, its model and its processor."""
    if kind == "CLIPModel":
        config = transformers.CLIPConfig(
            text_config=clip_folder.TEXT, vision_config=VISION | changes, projection_dim=20
        )
    else:
        config = transformers.CLIPVisionConfig(**VISION | changes, projection_dim=20)
    model = clip_folder.disturbed(getattr(transformers, kind)(config))
    model.save_pretrained(folder)
    clip_folder.write_tokenizer(folder)
    side = config.to_dict().get("image_size", VISION["image_size"])
    processor = transformers.CLIPImageProcessorPil(size={"shortest_edge": side}, crop_size=side)
    processor.save_pretrained(folder)
    return model, processor


def write_dinov2(folder, side=28, **changes):
    """The same, whose processor keeps squares of this side; positions are for 28 x 28."""
    config = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3, "image_size": 28}
    config |= {"patch_size": 7, "mlp_ratio": 2} | changes
    model = clip_folder.disturbed(transformers.Dinov2Model(transformers.Dinov2Config(**config)))
    model.save_pretrained(folder)
    processor = transformers.BitImageProcessorPil(
        size={"shortest_edge": side + 4},
        crop_size=side,
        image_mean=[0.485, 0.456, 0.406],
        image_std=[0.229, 0.224, 0.225],
    )
    processor.save_pretrained(folder)
    return model, processor


def rejected(whole, folder, file, entries, load, says):
    """The folder `whole` with other entries in a file is rejected in one line."""
    for name in ("config.json", "preprocessor_config.json", "model.safetensors"):
        (folder / name).write_bytes((whole / name).read_bytes())
    changed(folder / file, **entries)
    with pytest.raises(ValueError, match=says) as raised:
        load(folder)
    assert "\n" not in str(raised.value)


def changed(file, **entries):
    file.write_text(json.dumps(json.loads(file.read_text()) | entries))


@pytest.mark.parametrize(
    ("shorter", "side", "shape"),
    [(16, 16, (8, 8, 1)), (16, 16, (37, 61, 3)), (24, 17, (40, 23, 3)), (16, 16, (16, 16, 3))],
)
def test_inputs_are_those_of_transformers(tmp_path, shorter, side, shape):
    processor = transformers.CLIPImageProcessorPil(size={"shortest_edge": shorter}, crop_size=side)
    processor.save_pretrained(tmp_path)
    images = pictures(2, *shape)
    expected = inputs(processor, images).numpy().transpose(0, 2, 3, 1)
    assert_close(preprocessing.read(tmp_path)(images), expected, 1e-6)
    changed(tmp_path / preprocessing.FILE, size=shorter, crop_size=side)  # as in the oldest files
    assert_close(preprocessing.read(tmp_path)(images), expected, 1e-6)


@pytest.mark.requirement("R55")
@pytest.mark.parametrize(
    ("kind", "activation"),
    [("CLIPModel", "quick_gelu"), ("CLIPVisionModelWithProjection", "gelu"), ("CLIPVisionModel", "gelu")],
)
def test_features_of_clip_are_those_of_transformers(tmp_path, kind, activation):
    model, processor = write_clip(tmp_path, kind, hidden_act=activation)
    images = pictures(3, 20, 28, 3)
    with torch.no_grad():
        vision = model.vision_model if kind == "CLIPModel" else model
        out = vision(inputs(processor, images))
        expected = model.visual_projection(out.pooler_output) if kind == "CLIPModel" else out[0]
        expected = out.pooler_output if kind == "CLIPVisionModel" else expected
    assert_close(clip_images.load(tmp_path)(images), expected.numpy(), 1e-4)


@pytest.mark.requirement("R55")
@pytest.mark.parametrize("side", [28, 14, 42])
def test_features_of_dinov2_are_those_of_transformers(tmp_path, side):
    """With positions as learned, and interpolated to fewer and to more patches."""
    model, processor = write_dinov2(tmp_path, side)
    images = pictures(3, 30, 40, 3)
    with torch.no_grad():
        expected = model(inputs(processor, images)).last_hidden_state[:, 0].numpy()
    assert_close(dinov2.load(tmp_path)(images), expected, 1e-4)


def test_the_clip_score_is_that_of_transformers(tmp_path):
    """Of the logits, whose scale the model learns instead of fixing it at 100."""
    model, processor = write_clip(tmp_path)
    images, prompts = pictures(3, 20, 28, 3), ["a photo of the cat", "the", "and the cat"]
    tokenizer = transformers.CLIPTokenizer.from_pretrained(tmp_path)
    ids = tokenizer(prompts, padding=True, return_tensors="pt")
    with torch.no_grad():
        cosines = (
            model(pixel_values=inputs(processor, images), **ids).logits_per_image / model.logit_scale.exp()
        )
    own = 100 * np.diagonal(cosines.numpy()).astype(float)
    seen, read = clip_images.load(tmp_path)(images), clip.load(tmp_path).encode(prompts).projected
    for sign in (1, -1):  # random weights give angles of one side
        assert_close(clip_score(sign * seen, read), np.maximum(sign * own, 0), 1e-4)
    assert np.abs(own).min() > 1


def test_features_do_not_depend_on_the_block_or_the_devices(tmp_path, monkeypatch):
    write_clip(tmp_path, num_hidden_layers=1)
    encoder, images = clip_images.load(tmp_path), pictures(5, 16, 16, 1)
    together = encoder(images)
    monkeypatch.setattr("jaxflow.pretrained.images.BLOCK", 2)
    assert_close(encoder(images, mesh.over_examples()), together, 1e-5)
    with pytest.raises(ValueError, match=r"shape \(2, 3, 8, 8, 1\): expected"):
        encoder(np.zeros((2, 3, 8, 8, 1), np.uint8))


def test_scores_need_a_text_for_each_image():
    with pytest.raises(ValueError, match=r"texts have the shape \(2, 4\)"):
        clip_score(np.ones((3, 4)), np.ones((2, 4)))


PUBLISHED = {
    "openai/clip-vit-large-patch14": (
        clip_images,
        "CLIPVisionModelWithProjection",
        {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16, "intermediate_size": 4096}
        | {"patch_size": 14, "projection_dim": 768},
    ),
    "facebook/dinov2-large": (
        dinov2,
        "Dinov2Model",
        {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16, "image_size": 518},
    ),
}

IN_FILES = {r"attention\.(\w)_proj": r"attention.\1", r"attention\.o\.": "attention.output.dense."} | {
    rf"attention\.{name[0]}\.": f"attention.attention.{name}." for name in ("query", "key", "value")
}
"""Names in the memory of transformers -> those that it and the published files have on disk, of DINOv2."""


@pytest.mark.parametrize("name", PUBLISHED)
def test_parameters_at_the_published_sizes(tmp_path, name):
    """Names and sizes equal those of the reference, built without memory."""
    reader, kind, changes = PUBLISHED[name]
    config = getattr(transformers, "Dinov2Config" if reader is dinov2 else "CLIPVisionConfig")(**changes)
    config.save_pretrained(tmp_path)
    with torch.device("meta"):
        expected = getattr(transformers, kind)(config).state_dict()
    file = tmp_path / "config.json"
    network = dinov2.network_of(file) if reader is dinov2 else clip_images.network_of(file, expected)
    inputs = jax.ShapeDtypeStruct((1, 224, 224, 3), np.dtype("float32"))
    shapes = jax.eval_shape(network.init, jax.random.key(0), inputs)["params"]
    names = dinov2.NAMES if reader is dinov2 else clip_images._names("vision_model.")
    found = {
        name_of(tuple(part.key for part in path), names): leaf.size
        for path, leaf in jax.tree_util.tree_leaves_with_path(shapes)
    }
    unread = {"embeddings.mask_token"}
    assert found == {
        rewritten(key, IN_FILES if reader is dinov2 else {}): leaf.numel()
        for key, leaf in expected.items()
        if key not in unread
    }


def test_positions_between_the_learned_ones_are_those_of_torch():
    values = np.random.default_rng(0).standard_normal((5, 5))
    for m in (2, 7, 13):
        matrix = bicubic(5, m)
        expected = torch.nn.functional.interpolate(
            torch.from_numpy(values)[None, None], size=(m, m), mode="bicubic", align_corners=False
        )[0, 0].numpy()
        assert_close(matrix @ values @ matrix.T, expected, 1e-12)


@pytest.mark.parametrize(
    ("file", "entries", "says"),
    [
        ("config.json", {"model_type": "dinov2_with_registers"}, "model_type = .*: must be dinov2"),
        ("config.json", {"use_swiglu_ffn": True}, "use_swiglu_ffn = True: only False is supported"),
        ("config.json", {"mlp_ratio": "4"}, "mlp_ratio = '4': must be above 0"),
        ("config.json", {"image_size": 35}, r"'embeddings\.position_embeddings' has the shape \(1, 17, 24\)"),
        ("preprocessor_config.json", {"crop_size": 30}, "crop_size = 30: must be a multiple of the patch"),
    ],
)
def test_a_folder_that_is_not_a_dinov2_is_one_line(once, tmp_path, file, entries, says):
    rejected(once("dinov2", write_dinov2), tmp_path, file, entries, dinov2.load, says)


@pytest.mark.parametrize(
    ("file", "entries", "says"),
    [
        ("config.json", {"model_type": "blip"}, "model_type = 'blip': must be clip or clip_vision_model"),
        ("config.json", {"hidden_act": "relu"}, "hidden_act = 'relu': must be quick_gelu or gelu"),
        ("config.json", {"hidden_act": ["gelu"]}, "hidden_act = .*: must be quick_gelu or gelu"),
        ("config.json", {"model_type": "clip", "vision_config": [1]}, r"vision_config = \[1\]: expected an"),
        ("config.json", {"patch_size": 0}, "patch_size = 0: expected a positive whole number"),
        ("config.json", {"num_hidden_layers": 10**6}, r"config\.json: depth = 1000000: must be"),
        ("config.json", {"num_hidden_layers": 3}, r"no tensor 'vision_model\.encoder\.layers\.2\."),
        ("config.json", {"num_hidden_layers": 1}, r"has the tensor 'vision_model\.encoder\.layers\.1\."),
        ("preprocessor_config.json", {"crop_size": 8}, "crop_size = 8: must be the image size of config"),
        ("preprocessor_config.json", {"crop_size": 17}, "crop_size = 17: must be at most size = 16"),
        ("preprocessor_config.json", {"size": {"height": 16}}, "size = None: expected a side from 1"),
        ("preprocessor_config.json", {"do_resize": False}, "do_resize = False: must be true"),
        ("preprocessor_config.json", {"rescale_factor": 1.0}, "rescale_factor = 1.0: must be 1 / 255"),
        ("preprocessor_config.json", {"image_std": [0, 1, 1]}, "image_std = .*: must be positive"),
        ("preprocessor_config.json", {"image_mean": [0.5]}, "image_mean = .*: expected three numbers"),
        ("preprocessor_config.json", {"resample": 9}, "resample = 9: must be from 0 to 5"),
    ],
)
def test_a_folder_that_does_not_fit_is_one_line(once, tmp_path, file, entries, says):
    whole = once("vision", lambda folder: write_clip(folder, "CLIPVisionModelWithProjection"))
    rejected(whole, tmp_path, file, entries, clip_images.load, says)
