"""Text to clip end to end, in miniature: training, sampling, continuing, evaluation; latents in time."""

import dataclasses
import json
from functools import partial

import idle
import jax
import numpy as np
import pytest
from PIL import Image

import jaxflow
from experiments import evaluate, sample, train
from experiments.presets import autoencoder_of_clips, moving_shapes, shapes
from jaxflow import nn, runs
from jaxflow.data.clip_files import encoded
from jaxflow.data.clips import read_clip
from jaxflow.moving_shapes import builder as data
from jaxflow.shapes import builder as pictures

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("standard_promotion")]

SMALL = [
    *("--steps", "2", "--batch-size", "4", "--checkpoint-every", "2", "--warmup", "1", "--ema", "0"),
    *("--log-every", "1", "--sample-every", "0", "--parallel", "jit"),
]
PROMPT = "a red circle moves right"


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with some clips, and small networks in the presets."""
    place = tmp_path_factory.mktemp("moving")
    network = nn.DiT(encode=None, patch=8, tube=4, width=16, depth=1, heads=2)
    flow = dataclasses.replace(
        moving_shapes.experiment(), network=network, optimizer="adamw", still_weight=0.5
    )
    causal = nn.CausalAutoencoder(channels=(8, 8), blocks=1, groups=4, patch=2, time_factor=2, quant=False)
    autoencoder = dataclasses.replace(autoencoder_of_clips.experiment(), network=causal)
    with pytest.MonkeyPatch.context() as patch, jax.numpy_dtype_promotion("standard"):
        patch.setattr(data, "CLIPS", {"train": 32, "test": 16, "held_out": 16})
        patch.setattr(nn, "TextEncoder", partial(nn.TextEncoder, width=16, depth=1, heads=2))
        patch.setattr(moving_shapes, "experiment", lambda: flow)
        patch.setattr(autoencoder_of_clips, "experiment", lambda: autoencoder)
        yield place


def trained(place, *options, preset="moving_shapes", name="run", data=None):
    train.main(
        [preset, "--out", str(place / name), "--data-dir", str(data or place / "data"), *SMALL, *options]
    )
    return place / name


@pytest.fixture(scope="module")
def run(place):
    return trained(place)


def test_clips_are_drawn_as_film_strips_as_a_clip_that_plays_and_as_arrays(run):
    sample.main([str(run), "--w", "2", "--prompt", PROMPT, "--per-label", "2", "--steps", "2"])
    clips = np.load(run / "samples/w=2.npz")["images"]
    assert clips.shape == (2, 16, 32, 32, 3)
    page, _ = read_clip(run / "samples/w=2.webp", 16, 66, 66)
    assert page.shape == (16, 66, 66, 3)  # the clips side by side, and the unconditional ones below
    np.testing.assert_array_equal(page[:, :32, :32], clips[0])
    with Image.open(run / "samples/grid.png") as strips:
        assert strips.width > 2 * strips.height


def test_a_clip_is_continued_and_begins_with_a_given_frame(run, tmp_path):
    first = np.full((32, 32, 3), 200, np.uint8)
    Image.fromarray(first).save(tmp_path / "first.png")
    options = ["--frames", "25", "--keep", "6", "--format", "gif", "--from", str(tmp_path / "first.png")]
    options += ["--prompt", PROMPT, "--per-label", "1", "--w", "2", "--steps", "2"]
    sample.main([str(run), *options, "--out", str(tmp_path / "out")])
    clips = np.load(tmp_path / "out/w=2.npz")["images"]
    assert clips.shape == (1, 25, 32, 32, 3)
    np.testing.assert_array_equal(clips[0, 0], first)
    model = jaxflow.load(run)
    longer = partial(model.extend, 0, clips[:, :16], [PROMPT], frames=25, steps=2, w=2.0)
    np.testing.assert_array_equal(longer(keep=6), clips)  # the same windows by the library


def test_frames_that_are_kept_are_exact_for_any_rule(run):
    model = jaxflow.load(run)
    given = np.random.default_rng(0).integers(0, 256, (5, 32, 32, 3)).astype(np.uint8)
    draw = partial(model.sample, y=[PROMPT, None], steps=2, w=2.0, edit=runs.edit(model.space, given))
    for rule in ("classifier_free", "projected", "zero_star"):  # of one call, with memory, of its own times
        clips = draw(0, rule=rule)
        np.testing.assert_array_equal(clips[:, :5], np.stack([given, given]))


def test_each_figure_stands_beside_real_clips_and_the_controls(run, capsys):
    how = ["--w", "1", "--captions", "6", "--steps", "1", "--judge-steps", "2"]
    evaluate.main([str(run), *how])
    result = json.loads((run / "evaluation.json").read_text())
    for split in ("seen", "held out"):
        rows = result["table"][split]
        assert rows.keys() == {"1", "real", "shuffled", "frozen", "backwards"}
        assert rows["real"]["all"] == rows["real"]["persistence"] == 1
        assert rows["real"]["path"] == 0
        assert rows["shuffled"]["all"] < 1
    assert result["features"].keys() == {"1", "real", "shuffled", "frozen", "backwards"}
    assert "share of 6 captions" in capsys.readouterr().out


def test_a_run_of_images_is_the_start_of_one_of_clips(place, capsys):
    network = dataclasses.replace(moving_shapes.experiment().network, tube=1)
    stills = dataclasses.replace(
        moving_shapes.experiment(), dataset="shapes", network=network, still_weight=0.0
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pictures, "SCENES", {"train": 16, "test": 8, "held_out": 8})
        patch.setattr(shapes, "experiment", lambda: stills)
        with idle.steps(move=0.1):  # away from what its seed begins with, as that of the clips does
            images = trained(place, preset="shapes", name="images")
    with idle.steps():
        start = ("--inflate", str(images), "--network.tube", "1")
        clips = jaxflow.load(trained(place, *start, name="inflated"))
    given = jaxflow.load(images)
    for name in ("patch_embedding", "block_0", "final"):
        for path, leaf in jax.tree_util.tree_leaves_with_path(given.params[name]):
            own = clips.params[name]
            for key in path:
                own = own[key.key]
            np.testing.assert_array_equal(own, leaf)
    with pytest.raises(SystemExit) as stopped:
        trained(place, "--inflate", str(images), "--network.width", "32", name="other")
    assert stopped.value.code == 2
    assert "in the network of images" in capsys.readouterr().err


@pytest.mark.requirement("R67")
def test_a_flow_runs_in_the_latents_of_an_autoencoder_in_time(place):
    autoencoder = trained(place, preset="autoencoder_of_clips", name="autoencoder")
    options = ["--frames", "13", "--network.patch", "2", "--network.tube", "1", "--still-weight", "0"]
    run = trained(place, "--autoencoder", str(autoencoder), *options, name="latent")
    model = jaxflow.load(run)
    assert model.event_shape == (7, 8, 8, 4)  # 13 frames: the first alone, then pairs
    frame = np.full((32, 32, 3), 90, np.uint8)
    clips = model.sample(0, [PROMPT], steps=1, edit=runs.edit(model.space, frame))
    assert clips.shape == (1, 13, 32, 32, 3)
    own = jaxflow.load_autoencoder(autoencoder)
    as_image = own.decode(own.encode(frame[None]))
    np.testing.assert_allclose(
        clips[:, 0].astype(int), as_image, atol=1
    )  # the first latent is that of the image


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--frames", "1"], "frames = 1: must be at least 2"),
        (["--keep", "4"], "keep = 4: has no effect without --frames"),
        (["--frames", "20", "--keep", "16"], "keep = 16: must be at most 15"),
        (["--rate", "0"], "rate = 0.0: must be from 0.1"),
        (["--from", "FRAME", "--strength", "0.5"], "have no effect on the first frame of a clip"),
    ],
)
def test_options_that_a_model_of_clips_cannot_have(run, tmp_path, options, message, capsys):
    Image.new("RGB", (8, 8)).save(tmp_path / "frame.png")
    given = [str(tmp_path / "frame.png") if option == "FRAME" else option for option in options]
    with pytest.raises(SystemExit) as stopped:
        sample.main([str(run), "--prompt", PROMPT, "--out", str(tmp_path / "out"), *given])
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("preset", "options", "message"),
    [
        ("moving_shapes", ["--frames", "17"], "frames = 17: its clips have 16"),
        ("moving_shapes", ["--network.tube", "3"], "tube = 3: must divide the 16 frames"),
        ("moving_shapes", ["--rate", "4"], "rate = 4.0: applies only to `clips`"),
        ("digits", ["--still-weight", "1"], "still_weight = 1.0: of clips, and the data are images"),
        ("autoencoder_of_clips", ["--frames", "12"], "12 frames: the autoencoder needs 1 + 2 k"),
        ("autoencoder_of_clips", ["--adversarial-weight", "1"], "of images, and the data are clips"),
    ],
)
def test_data_and_networks_that_do_not_fit(place, data_dir, preset, options, message, capsys):
    with pytest.raises(SystemExit) as stopped:
        trained(place, *options, preset=preset, name="unfit", data=data_dir if preset == "digits" else None)
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err
    assert not (place / "unfit").exists()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("one.gif", "still", "it is a still image, not a clip"),
        ("short.gif", "short", "has 3 frames, fewer than frames = 16: lower --frames"),
        ("cut.webp", "cut", "cannot be read"),
        ("text.mp4", "text", "cannot be read"),
    ],
)
def test_a_folder_of_clips_that_cannot_be_read_is_one_line(tmp_path, name, content, message, capsys):
    frames = np.random.default_rng(0).integers(0, 256, (16, 8, 8, 3)).astype(np.uint8)
    suffix = name[name.index(".") :]
    files = {
        "still": lambda: encoded(frames[:1], 8, suffix),
        "short": lambda: encoded(frames[:3], 8, suffix),
        "cut": lambda: encoded(frames, 8, suffix)[:400],
        "text": lambda: b"no video at all",
    }
    (tmp_path / "clips/cats").mkdir(parents=True)
    (tmp_path / "clips/cats/good.webp").write_bytes(encoded(frames, 8, ".webp"))
    (tmp_path / "clips/cats" / name).write_bytes(files[content]())
    where = ["--data-dir", str(tmp_path / "clips"), "--hold-out", "0", "--out", str(tmp_path / "run")]
    with pytest.raises(SystemExit) as stopped:
        train.main(["moving_shapes", "--dataset", "clips", *where, *SMALL])
    assert stopped.value.code == 2
    said = capsys.readouterr().err.strip()
    assert message in said
    assert name in said
    assert "\n" not in said
    assert not (tmp_path / "run").exists()
