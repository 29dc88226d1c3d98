"""What a user may get wrong: one line that says it, exit code 2, nothing compiled and nothing left behind.

The scripts run in this process; for each of them once in one of its own.
"""

import itertools
import shlex
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import jax
import jax.numpy as jnp
import optax
import pytest
from conftest import compiling_nothing
from PIL import Image

from experiments.presets import digits
from experiments.presets import folder as pictures
from jaxflow import spaces
from jaxflow.data.codecs import Captions
from jaxflow.data.datasets import open_dataset
from jaxflow.runs import folder
from jaxflow.runs.configuration import fitted
from jaxflow.runs.run import Run, new_run
from jaxflow.training.checkpoint import Checkpoints
from jaxflow.training.lock import Lock
from jaxflow.training.step import initial_state

ROOT = Path(__file__).parents[2]
SECONDS = 5
"""Until the user is told."""

DIGITS = "digits --out {OUT} --data-dir {DATA}"
PICTURES = "folder --out {OUT} --data-dir {PICTURES}"
CAPTIONED = "folder --out {OUT} --data-dir {CAPTIONED} --image-size 16"

REFUSED = [
    # The preset and the folders.
    ("train", "", "PRESET is missing: there are digits, folder, mnist, shapes, shapes_dit"),
    ("train", "cifar --out {OUT}", "PRESET = 'cifar': there are digits, folder, mnist, shapes, shapes_dit"),
    ("train", "digits --out {FILE} --data-dir {DATA}", "out = {FILE}: the folder cannot be made"),
    ("train", "digits --out {FILE}/run --data-dir {DATA}", "out = {FILE}/run: the folder cannot be made"),
    ("train", "digits --out /proc/run --data-dir {DATA}", "out = /proc/run: the folder cannot be made"),
    # Numbers of the training.
    ("train", f"{DIGITS} --steps 0", "steps = 0: it should be greater than or equal to 1"),
    ("train", f"{DIGITS} --steps -3", "steps = -3: it should be greater than or equal to 1"),
    ("train", f"{DIGITS} --batch-size 0", "batch_size = 0: it should be greater than or equal to 1"),
    (
        "train",
        f"{DIGITS} --batch-size 1440",
        "batch_size = 1440: the data set has 1438 examples, allowed are",
    ),
    ("train", f"{DIGITS} --batch-size 6", "batch_size = 6: a multiple of 4 is needed"),
    ("train", f"{DIGITS} --batch-size 8 --accumulate 3", "batch_size = 8: a multiple of 12 is needed"),
    ("train", f"{DIGITS} --accumulate 0", "accumulate = 0: it should be greater than or equal to 1"),
    (
        "train",
        f"{DIGITS} --checkpoint-every 1",
        "checkpoint_every = 1: it should be greater than or equal to 2",
    ),
    ("train", f"{DIGITS} --log-every 0", "log_every = 0: it should be greater than or equal to 1"),
    ("train", f"{DIGITS} --seed -1", "seed = -1: it should be greater than or equal to 0"),
    ("train", f"{DIGITS} --seed 4294967296", "seed = 4294967296: it should be less than 4294967296"),
    ("train", f"{DIGITS} --learning-rate 0", "learning_rate = 0.0: it should be greater than 0"),
    ("train", f"{DIGITS} --learning-rate -0.1", "learning_rate = -0.1: it should be greater than 0"),
    ("train", f"{DIGITS} --learning-rate nan", "learning_rate = nan: it should be a finite number"),
    ("train", f"{DIGITS} --learning-rate inf", "learning_rate = inf: it should be a finite number"),
    ("train", f"{DIGITS} --warmup -1", "warmup = -1: it should be greater than or equal to 0"),
    ("train", f"{DIGITS} --weight-decay -1", "weight_decay = -1.0: it should be greater than or equal to 0"),
    ("train", f"{DIGITS} --weight-decay nan", "weight_decay = nan: it should be a finite number"),
    ("train", f"{DIGITS} --clip 0", "clip = 0.0: it should be greater than 0"),
    ("train", f"{DIGITS} --clip nan", "clip = nan: it should be a finite number"),
    ("train", f"{DIGITS} --ema 1.5", "ema = 1.5: it should be less than or equal to 1"),
    ("train", f"{DIGITS} --ema -0.1", "ema = -0.1: it should be greater than or equal to 0"),
    ("train", f"{DIGITS} --ema nan", "ema = nan: it should be a finite number"),
    (
        "train",
        f"{DIGITS} --condition-dropout 1.1",
        "condition_dropout = 1.1: it should be less than or equal to 1",
    ),
    (
        "train",
        f"{DIGITS} --condition-dropout -1",
        "condition_dropout = -1.0: it should be greater than or equal to 0",
    ),
    ("train", f"{DIGITS} --condition-dropout nan", "condition_dropout = nan: it should be a finite number"),
    ("train", f"{DIGITS} --time-deviation 0", "time_deviation = 0.0: it should be greater than 0"),
    ("train", f"{DIGITS} --time-mean nan", "time_mean = nan: it should be a finite number"),
    ("train", f"{DIGITS} --time-mean inf", "time_mean = inf: it should be a finite number"),
    ("train", f"{DIGITS} --sample-every -1", "sample_every = -1: it should be greater than or equal to 0"),
    ("train", f"{DIGITS} --tensor 0", "tensor = 0: it must divide the number of devices, 4"),
    ("train", f"{DIGITS} --tensor 3", "tensor = 3: it must divide the number of devices, 4"),
    # The data.
    ("train", f"{DIGITS} --dataset ''", "dataset = '': `folder` or a TFDS name is needed"),
    ("train", f"{DIGITS} --dataset ../digits", "dataset = '../digits': `folder` or a TFDS name is needed"),
    ("train", f"{DIGITS} --image-size 16", "image_size = 16: only the pictures of `folder` are resized"),
    ("train", f"{DIGITS} --text-encoder {{EMPTY}}", "text_encoder = {EMPTY}: the images have classes"),
    ("train", "digits --out {OUT} --data-dir {FILE}", "data_dir = {FILE}: 'digits' cannot be written there"),
    ("train", "mnist --out {OUT} --data-dir {EMPTY}", "is not in {EMPTY}: name its folder with --data-dir"),
    ("train", "mnist --out {OUT} --data-dir {NOWHERE}", "python -m jaxflow.data.prepare mnist --data-dir"),
    ("train", "digits --out {OUT} --data-dir {TFRECORD}", "is tfrecord, not array_record: prepare it again"),
    ("train", "digits --out {OUT} --data-dir {UINT16}", "has images of uint16: uint8 is needed"),
    ("train", "digits --out {OUT} --data-dir {NOTES}", "data set 'digits' in {NOTES} is damaged: "),
    ("train", "folder --out {OUT}", "data_dir is missing: the folder of the pictures is needed"),
    ("train", "folder --out {OUT} --data-dir {NOWHERE}", "data_dir = {NOWHERE}: there is no such folder"),
    (
        "train",
        "folder --out {OUT} --data-dir {EMPTY}",
        "data_dir = {EMPTY}: no picture is in it; read are .avif",
    ),
    ("train", f"{PICTURES} --image-size 0", "image_size = 0: it should be greater than or equal to 1"),
    ("train", f"{PICTURES} --image-size 30", "patch size 4 does not divide the image size 30 x 30"),
    ("train", f"{CAPTIONED} --text-encoder {{NOWHERE}}", "text_encoder = {NOWHERE}: there is no such folder"),
    ("train", f"{CAPTIONED} --text-encoder {{EMPTY}}", "'{EMPTY}' has neither config.json nor"),
    # A folder that holds a run.
    (
        "train",
        "digits --out {RUN} --data-dir {DATA} --batch-size 8 --ema 0.5 --seed 3",
        "batch_size was 64 and is 8; ema was 0.998 and is 0.5; seed was 0 and is 3. Choose another --out",
    ),
    ("train", "digits --out {NOT_JSON} --data-dir {DATA}", "{NOT_JSON}/config.json is damaged"),
    ("train", "digits --out {ONE_BIT} --data-dir {DATA}", "{ONE_BIT}/config.json is damaged"),
    # The run to sample from.
    *(
        (script, place, says)
        for script in ("sample", "evaluate", "sweep")
        for place, says in (
            ("{NOWHERE}", "{NOWHERE}"),
            ("{EMPTY}", "{EMPTY} is not a run folder: it has no config.json"),
            ("{NO_CHECKPOINT}", "{NO_CHECKPOINT}/checkpoints has no checkpoint yet: let the training run"),
            ("{NOT_JSON}", "{NOT_JSON}/config.json is damaged, or of another version of jaxflow"),
            ("{ONE_BIT}", "{ONE_BIT}/config.json is damaged, or of another version of jaxflow"),
            ("{SPOILED}", "{SPOILED}/checkpoints: no checkpoint is whole"),
        )
    ),
    # The sampler, and the scale of guidance.
    *(
        (script, f"{{RUN}} {options}", says)
        for script in ("sample", "evaluate", "sweep")
        for options, says in (
            ("--w", "w = (): at least one value is needed"),
            ("--w nan", "w = nan: the guidance scale must be finite"),
            ("--w 1 inf", "w = inf: the guidance scale must be finite"),
            ("--w -inf", "w = -inf: the guidance scale must be finite"),
            ("--w 1e39", "w = 1e+39: the guidance scale must be finite"),
            ("--per-label 0", "per_label = 0: at least 1 is needed"),
            ("--steps 0", "steps = 0: at least 1 is needed"),
            ("--steps -1", "steps = -1: at least 1 is needed"),
            ("--solver rk5", "solver = 'rk5': there are euler, midpoint, heun, rk4, "),
            ("--grid log", "grid = 'log': there are uniform, cosine, karras"),
            ("--seed -1", "seed = -1: a number from 0 to 4294967295 is needed"),
            ("--seed 4294967296", "seed = 4294967296: a number from 0 to 4294967295 is needed"),
        )
    ),
    ("sample", "{OF_DATA} --solver heun", "solver = 'heun': it asks for the velocity at t = 1"),
    ("sample", "{ETA_0} --w 1 2", "w = 2.0: trained with condition_dropout = 0, "),
    ("sample", "{ETA_1} --w 0 1", "w = 1.0: trained with condition_dropout = 1, "),
    # What is asked for.
    ("sample", "{RUN} --labels", "labels = (): at least one value is needed"),
    ("sample", "{RUN} --labels 1 10", "labels[1]: label = 10: the classes are 0, 1, 2"),
    ("sample", "{RUN} --labels -1", "labels[0]: label = -1: the classes are 0, 1, 2"),
    (
        "sample",
        "{RUN} --prompt 'a red circle'",
        "prompt: the run is of the classes 0, 1, 2",
    ),
    (
        "sample",
        "{RUN} --negative 'a circle'",
        "label = 'a circle': the classes are 0, 1, 2",
    ),
    ("sample", "{OF_CAPTIONS}", "prompt is missing: say what the images shall show"),
    ("sample", "{OF_CAPTIONS} --labels 0", "labels: the run is of captions"),
    (
        "sample",
        "{OF_CAPTIONS} --prompt 'a blue circle'",
        "no caption has the word 'blue'; there are a, red, ",
    ),
    ("sample", "{OF_CAPTIONS} --prompt a --negative blue", "prompt 'blue': no caption has the word 'blue'"),
    ("sample", "{OF_CAPTIONS} --prompt 'a a a red red'", "at most 4 words are read; 'red' is too much"),
    # The measuring.
    ("evaluate", "{RUN} --judge-steps 0", "judge_steps = 0: at least 1 is needed"),
    ("evaluate", "{RUN} --captions 0", "captions = 0: at least 1 is needed"),
    ("evaluate", "{RUN} --data-dir {FILE}", "data_dir = {FILE}: 'digits' cannot be written there"),
    (
        "evaluate",
        "{RUN} --data-dir {ONE_BYTE}",
        "of data set 'digits' in {ONE_BYTE} cannot be read, Corrupted",
    ),
    ("sweep", "{OF_CAPTIONS}", "the model is of images that have captions, not classes"),
    ("sweep", "{RUN} --rules magic", "rule = 'magic': there are classifier_free, interval, "),
    ("sweep", "{RUN} --rules", "rules = (): at least one value is needed"),
    ("sweep", "{RUN} --rules autoguidance", "rule = 'autoguidance': it needs a worse model"),
    ("sweep", "{RUN} --worse {EMPTY}", "{EMPTY} is not a run folder"),
    ("sweep", "{RUN} --worse {OF_CAPTIONS}", "worse = {OF_CAPTIONS}: it was trained on other data, folder"),
    ("sweep", "{RUN} --sigma", "sigma = (): at least one value is needed"),
    ("sweep", "{RUN} --sigma -1", "sigma = -1.0: a finite number from 0 is needed"),
    ("sweep", "{RUN} --sigma nan", "sigma = nan: a finite number from 0 is needed"),
    ("sweep", "{RUN} --sigma 0 0.5 --solver euler", "sigma = 0.5: the solver 'euler' is not of the SDE"),
    ("sweep", "{RUN} --together 0", "together = 0: at least 1 is needed"),
    ("sample", "{RUN} --rule magic", "rule = 'magic': there are classifier_free, interval, "),
    ("sample", "{RUN} --rule autoguidance", "rule = 'autoguidance': it needs a worse model"),
    ("sample", "{RUN} --sigma -1", "sigma = -1.0: a finite number from 0 is needed"),
    ("sample", "{RUN} --sigma 0.5 --solver rk4", "sigma = 0.5: the solver 'rk4' is not of the SDE"),
    ("sample", "{RUN} --shift 0", "shift = 0.0: a positive, finite number is needed"),
    ("sample", "{RUN} --labels ten", "labels[0]: label = 'ten': the classes are 0, 1, 2"),
    ("sample", "{RUN} --preset {NOWHERE}.py", "PRESET = '{NOWHERE}.py': there is no such file"),
    ("train", f"{DIGITS} --network.width 18", "width = 18"),
    ("train", f"{DIGITS} --network.depth 0", "network.depth = 0: it should be greater than or equal to 1"),
    ("train", "{NOWHERE}.py --out {OUT}", "PRESET = '{NOWHERE}.py': there is no such file"),
    ("sweep", "{RUN} --chunk 0", "chunk = 0: at least 1 is needed"),
    ("sweep", "{RUN} --judge-steps 0", "judge_steps = 0: at least 1 is needed"),
    ("sweep", "{RUN} --classifier-steps 0", "classifier_steps = 0: at least 1 is needed"),
]
"""Script, arguments, and what the line says."""

NOT_PARSED = [
    ("train", "digits", "--out PATH The run folder. (required)"),
    (
        "train",
        f"{DIGITS} --steps 1.5",
        "Error parsing --steps: invalid literal for int() with base 10: '1.5'",
    ),
    ("train", f"{DIGITS} --parallel gpu", "invalid choice 'gpu' for argument '--parallel'. Expected one of"),
    (
        "train",
        f"{DIGITS} --time-law normal",
        "'normal' for argument '--time-law'. Expected one of ('uniform',",
    ),
    ("train", f"{DIGITS} --optimizer sgd", "'sgd' for argument '--optimizer'. Expected one of ('adamw',"),
    ("train", f"{DIGITS} --prediction eps", "for argument '--prediction'. Expected one of ('velocity',"),
    ("train", f"{DIGITS} --network.dtype float8", "for argument '--network.dtype'. Expected one of"),
    ("train", f"{DIGITS} --network.colour red", "Unrecognized options: --network.colour"),
    ("train", f"{DIGITS} --colour red", "Unrecognized options: --colour"),
    ("sample", "", "PATH The run folder"),
    ("sample", "{RUN} --w two", "Error parsing --w: Could not find valid parse for arguments: ['two']"),
    ("evaluate", "{RUN} --per-label many", "Error parsing --per-label: invalid literal for int()"),
    ("sweep", "{RUN} --sigma small", "Error parsing --sigma: Could not find valid parse"),
]
"""Refused by tyro, which draws a box around what it says."""


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    """Files and folders, by the names that the arguments have for them."""
    root = tmp_path_factory.mktemp("places")
    (root / "FILE").touch()
    (root / "EMPTY").mkdir()
    make_data(root)
    make_pictures(root)
    make_runs(root)
    return {place.name: place for place in root.iterdir()} | {"NOWHERE": root / "NOWHERE"}


def make_data(root):
    open_dataset("digits", "train", root / "DATA")
    info, features, records = (
        f"digits/1.0.0/{name}"
        for name in ("dataset_info.json", "features.json", "digits-train.array_record-00000-of-00001")
    )
    changed(root / "DATA", root / "TFRECORD", info, lambda b: b.replace(b"array_record", b"tfrecord"))
    changed(root / "DATA", root / "UINT16", features, lambda b: b.replace(b"uint8", b"uint16"))
    changed(root / "DATA", root / "NOTES", info, lambda b: b[1:])
    changed(
        root / "DATA", root / "ONE_BYTE", records, lambda b: b[:99_999] + bytes([b[99_999] ^ 1]) + b[100_000:]
    )


def make_pictures(root):
    for place, i in itertools.product((root / "PICTURES", root / "CAPTIONED"), range(50)):
        place.mkdir(exist_ok=True)
        Image.new("RGB", (16, 16)).save(place / f"{i}.png")
    for picture in (root / "CAPTIONED").glob("*.png"):
        picture.with_suffix(".txt").write_text("a red circle")


def make_runs(root):
    """Runs without training: what is refused is refused before a parameter is looked at."""
    dataset = open_dataset("digits", "train", root / "DATA")
    run = new_run(fitted(digits.experiment(), dataset.codec), dataset, str(root / "DATA"))
    store(root / "RUN", run)
    with Lock(root / "RUN"), Checkpoints(root / "RUN" / "checkpoints") as checkpoints:
        checkpoints.save(zeros(run))
    for name, fields in (
        ("ETA_0", {"condition_dropout": 0.0}),
        ("ETA_1", {"condition_dropout": 1.0}),
        ("OF_DATA", {"prediction": "data"}),
    ):
        store(root / name, replace(run, experiment=replace(run.experiment, **fields)))
    captions = Captions(("a", "red", "circle"), 4)
    store(
        root / "OF_CAPTIONS",
        Run(fitted(pictures.experiment(), captions), "", spaces.Pixels((64, 64, 3)), captions),
    )
    shutil.copytree(root / "RUN", root / "NO_CHECKPOINT", ignore=shutil.ignore_patterns("checkpoints*"))
    changed(root / "RUN", root / "NOT_JSON", "config.json", lambda b: b[:-9])
    changed(root / "RUN", root / "ONE_BIT", "config.json", lambda b: b.replace(b'"depth": 6', b'"depth": 4'))
    changed(root / "RUN", root / "SPOILED", "checkpoints/0/contents.json", lambda b: b + b" ")


def store(place, run):
    place.mkdir()
    folder.store(place, run)


def zeros(run):
    def state():
        return initial_state(run.initial_params(jax.random.key(0)), optax.identity())

    return jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), jax.eval_shape(state))


def changed(old, new, file, change):
    """A copy of a folder with one file changed."""
    shutil.copytree(old, new)
    before = (new / file).read_bytes()
    (new / file).write_bytes(change(before))
    assert (new / file).read_bytes() != before


def refuse(script, arguments, capsys):
    """Standard error of a script that has ended with exit code 2, soon and with nothing compiled."""
    main = import_module(f"experiments.{script}").main
    jax.clear_caches()  # so that what an earlier case compiled would be compiled, and seen, again
    capsys.readouterr()
    start = time.monotonic()
    with compiling_nothing(), pytest.raises(SystemExit) as end:
        main(arguments)
    assert end.value.code == 2
    assert time.monotonic() - start < SECONDS
    return capsys.readouterr().err


@pytest.fixture
def fill(places, tmp_path):
    """The names of places in a text replaced; after the test there is nothing new."""
    here = sorted(places["FILE"].parent.rglob("*"))
    yield lambda text: text.format(**places, OUT=tmp_path / "out")
    assert sorted(places["FILE"].parent.rglob("*")) == here
    assert not (tmp_path / "out").exists()


@pytest.mark.filterwarnings("ignore:.*is damaged")
@pytest.mark.parametrize(("script", "arguments", "says"), REFUSED)
def test_bad_input_is_one_line_and_exit_code_2(script, arguments, says, fill, capsys):
    printed = refuse(script, shlex.split(fill(arguments)), capsys)
    assert printed.startswith("error: ")
    assert printed.endswith("\n")
    assert printed.count("\n") == 1
    assert fill(says) in printed


@pytest.mark.parametrize(("script", "arguments", "says"), NOT_PARSED)
def test_what_is_no_value_of_its_option_is_said_in_a_box(script, arguments, says, fill, capsys):
    printed = refuse(script, shlex.split(fill(arguments)), capsys)
    assert says in " ".join(word for word in printed.split() if word not in "│╭╮╰╯─")
    assert "Traceback" not in printed


def test_damaged_checkpoints_are_not_trained_over(places, tmp_path, capsys):
    shutil.copytree(places["SPOILED"], tmp_path / "run")
    with pytest.warns(UserWarning, match="'contents.json' is not as it was written; set aside"):
        printed = refuse(
            "train", shlex.split(f"digits --out {tmp_path}/run --data-dir {places['DATA']}"), capsys
        )
    assert printed.startswith(f"error: {tmp_path}/run/checkpoints: no checkpoint is whole; ")


@pytest.mark.slow
@pytest.mark.parametrize("script", ["train", "sample", "evaluate", "sweep"])
def test_a_process_ends_with_exit_code_2(script, fill):
    arguments, says = next((arguments, says) for name, arguments, says in REFUSED if name == script)
    command = [sys.executable, "-m", f"experiments.{script}", *shlex.split(fill(arguments))]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 2
    assert done.stderr.splitlines() == [line for line in done.stderr.splitlines() if fill(says) in line]
    assert done.stderr.startswith("error: ")
    assert done.stdout == ""
