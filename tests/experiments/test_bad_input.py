"""What a user may get wrong: one line that names it, exit code 2, nothing compiled and nothing left behind.

Whole scripts, in this process, at each place where input is checked; and the functions that check options and
files, with whatever else they reject.
"""

import itertools
import re
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

from experiments import sweep, train
from experiments.opening import Source, open_model
from experiments.presets import digits
from jaxflow import spaces
from jaxflow.data.codecs import Captions
from jaxflow.data.datasets import open_dataset
from jaxflow.runs import configuration, folder
from jaxflow.runs.configuration import fitted
from jaxflow.runs.run import Run, new_run
from jaxflow.runs.sampler import Sampler
from jaxflow.training.checkpoint import Checkpoints
from jaxflow.training.lock import Lock
from jaxflow.training.step import initial_state

ROOT = Path(__file__).parents[2]
SECONDS = 5
"""Until the user is told."""
SMALL = {"width": 16, "depth": 1, "heads": 2}

DIGITS = "digits --out {OUT} --data-dir {DATA}"

SCRIPTS = [
    ("train", "", "PRESET is missing"),
    ("train", "cifar --out {OUT}", "PRESET = 'cifar': "),
    ("train", "digits --out {FILE}/run --data-dir {DATA}", "out = {FILE}/run: "),
    ("train", f"{DIGITS} --steps 0", "steps = 0: must be greater than or equal to 1"),
    ("train", f"{DIGITS} --batch-size 1440", "batch_size = 1440: "),
    ("train", f"{DIGITS} --network.width 18", "width = 18"),
    (
        "train",
        f"{DIGITS} --auxiliary-weight 0.5",
        "auxiliary_weight = 0.5: the network has no auxiliary head",
    ),
    ("train", f"{DIGITS} --auxiliary-weight 0.5 --network.auxiliary 6", "auxiliary = 6: must be below depth"),
    ("train", "folder --out {OUT} --data-dir {IMAGES} --image-size 30", "30"),
    ("train", f"{DIGITS} --text-encoder {{EMPTY}}", "text_encoder = {EMPTY}: "),
    (
        "train",
        "digits --out {RUN} --data-dir {DATA} --batch-size 8 --network.width 16 --network.depth 1"
        " --network.heads 2",
        "batch_size was 64 and is 8",
    ),
    ("sample", "{NOWHERE}", "{NOWHERE}"),
    ("sample", "''", "MODEL is empty"),
    ("sample", "{RUN} --out ''", "out is empty"),
    ("sample", "{RUN} --w nan", "w = nan: the guidance scale must be finite"),
    ("sample", "{RUN} --steps 1000000000", "steps = 1000000000: must be at most 100000"),
    ("sample", "{RUN} --per-label 1000000000", "rows x per_label = 11 x 1000000000 images take"),
    ("sample", "{RUN} --labels 1 10", "labels[1]: label = 10: the classes are 0, 1, 2"),
    ("sample", "{OF_CAPTIONS} --prompt 'a blue circle'", "no caption has the word 'blue'"),
    ("evaluate", "{RUN} --judge-steps 0", "judge_steps = 0: must be at least 1"),
    ("evaluate", "{RUN} --data-dir {ONE_BYTE}", "'digits' in {ONE_BYTE} cannot be read, Corrupted"),
    ("sweep", "{RUN} --rules autoguidance", "rule = 'autoguidance': requires a less trained run"),
    ("sweep", "{RUN} --rules internal", "rule = 'internal': requires a network with an auxiliary head"),
    ("sweep", "{SPOILED}", "{SPOILED}/checkpoints: no checkpoint is "),
]
"""Script, arguments, and what the line says."""

NOT_PARSED = [
    (
        "train",
        f"{DIGITS} --steps 1.5",
        "Error parsing --steps: invalid literal for int() with base 10: '1.5'",
    ),
    ("train", f"{DIGITS} --prediction eps", "for argument '--prediction'. Expected one of ('velocity',"),
    ("train", f"{DIGITS} --network.colour red", "Unrecognized options: --network.colour"),
    ("sample", "{RUN} --w two", "Error parsing --w: Could not find valid parse for arguments: ['two']"),
]
"""Rejected by tyro, which prints a box."""

NUMBERS = [
    *((name, 0, "greater than or equal to") for name in ("steps", "batch_size", "accumulate", "log_every")),
    *((name, -1, "greater than or equal to") for name in ("warmup", "sample_every", "seed")),
    *((name, 10**30, "less than") for name in ("steps", "batch_size", "seed")),
    *((name, 0.0, "greater than 0") for name in ("learning_rate", "clip", "time_deviation")),
    *((name, -0.5, "greater than") for name in ("learning_rate", "weight_decay", "ema", "condition_dropout")),
    *((name, 1.5, "less than or equal to 1") for name in ("ema", "condition_dropout")),
    *(
        (name, value, "a finite number")
        for name in ("learning_rate", "weight_decay", "clip", "ema", "condition_dropout", "time_mean")
        for value in (float("nan"), float("inf"))
    ),
    ("checkpoint_every", 1, "greater than or equal to 2"),
    ("image_size", 0, "greater than or equal to 1"),
]
"""Numbers of an experiment."""


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    """Files and folders, by their names in the arguments."""
    root = tmp_path_factory.mktemp("places")
    (root / "FILE").touch()
    (root / "EMPTY").mkdir()
    make_data(root)
    make_images(root)
    make_runs(root)
    jax.clear_caches()  # so that what earlier tests compiled would be compiled, and seen, again
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


def make_images(root):
    for place, i in itertools.product((root / "IMAGES", root / "CAPTIONED"), range(50)):
        place.mkdir(exist_ok=True)
        Image.new("RGB", (16, 16)).save(place / f"{i}.png")
    for picture in (root / "CAPTIONED").glob("*.png"):
        picture.with_suffix(".txt").write_text("a red circle")


def make_runs(root):
    """Untrained runs: input is rejected before parameters are read."""
    dataset = open_dataset("digits", "train", root / "DATA")
    small = replace(digits.experiment(), network=digits.experiment().network.clone(**SMALL))
    run = new_run(fitted(small, dataset.codec), dataset, str(root / "DATA"))
    store(root / "RUN", run)
    with Lock(root / "RUN"), Checkpoints(root / "RUN" / "checkpoints") as checkpoints:
        checkpoints.save(zeros(run))
    captions = Captions(("a", "red", "circle"), 4)
    captioned = fitted(replace(small, dataset="folder"), captions)
    store(root / "OF_CAPTIONS", Run(captioned, "", spaces.Pixels((8, 8, 3)), captions))
    shutil.copytree(root / "RUN", root / "NO_CHECKPOINT", ignore=shutil.ignore_patterns("checkpoints*"))
    changed(root / "RUN", root / "NOT_JSON", "config.json", lambda b: b[:-9])
    changed(root / "RUN", root / "ONE_BIT", "config.json", lambda b: b.replace(b'"depth": 1', b'"depth": 2'))
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


def reject(script, arguments, capsys):
    """Standard error of a script that has ended with exit code 2, soon and with nothing compiled."""
    main = import_module(f"experiments.{script}").main
    capsys.readouterr()
    start = time.process_time()  # of the script, whatever else runs on the machine
    with compiling_nothing(), pytest.raises(SystemExit) as end:
        main(arguments)
    assert end.value.code == 2
    assert time.process_time() - start < SECONDS
    return capsys.readouterr().err


@pytest.fixture
def fill(places, tmp_path):
    """Replaces the names of places in a text; after the test there is nothing new."""
    here = sorted(places["FILE"].parent.rglob("*"))
    yield lambda text: text.format(**places, OUT=tmp_path / "out")
    assert sorted(places["FILE"].parent.rglob("*")) == here
    assert not (tmp_path / "out").exists()


@pytest.mark.filterwarnings("ignore:.*is damaged")
@pytest.mark.parametrize(("script", "arguments", "says"), SCRIPTS)
def test_bad_input_is_one_line_and_exit_code_2(script, arguments, says, fill, capsys):
    printed = reject(script, shlex.split(fill(arguments)), capsys)
    assert printed.startswith("error: ")
    assert printed.endswith("\n")
    assert printed.count("\n") == 1
    assert fill(says) in printed


@pytest.mark.parametrize(("script", "arguments", "says"), NOT_PARSED)
def test_what_does_not_parse_is_shown_in_a_box(script, arguments, says, fill, capsys):
    printed = reject(script, shlex.split(fill(arguments)), capsys)
    assert says in " ".join(word for word in printed.split() if word not in "│╭╮╰╯─")
    assert "Traceback" not in printed


@pytest.mark.parametrize(("name", "value", "says"), NUMBERS)
def test_numbers_of_an_experiment_have_ranges(name, value, says):
    with pytest.raises(ValueError, match=f"^{name} = .*: must be {says}"):
        configuration.check(replace(digits.experiment(), **{name: value}))


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"w": ()}, "w = (): expected at least one value"),
        ({"sigma": ()}, "sigma = (): expected at least one value"),
        ({"rules": ()}, "rules = (): expected at least one value"),
        ({"sigma": (-1.0,)}, "sigma = -1.0: must be non-negative and finite"),
        ({"sigma": (float("nan"),)}, "sigma = nan: must be non-negative and finite"),
        ({"per_label": 0}, "per_label = 0: must be at least 1"),
        ({"chunk": 0}, "chunk = 0: must be at least 1"),
        ({"judge_steps": 0}, "judge_steps = 0: must be at least 1"),
        ({"seed": 2**32}, "seed = 4294967296: must be from 0 to 4294967295"),
    ],
)
def test_options_of_a_sweep_have_ranges(arguments, says):
    with pytest.raises(ValueError, match=re.escape(says)):
        sweep.check(sweep.Arguments(model="", **arguments))


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("TFRECORD", "is tfrecord, not array_record: prepare it again"),
        ("UINT16", "has images of uint16: "),
        ("NOTES", "data set 'digits' in {NOTES} is damaged: "),
        ("FILE", "data_dir = {FILE}: "),
    ],
)
def test_unusable_data_are_rejected(places, name, says):
    with pytest.raises((ValueError, OSError), match=re.escape(says.format(**places))):
        open_dataset("digits", "train", str(places[name]))


@pytest.mark.filterwarnings("ignore:.*is damaged")
@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("NOWHERE", "{NOWHERE} does not exist"),
        ("EMPTY", "{EMPTY} is not a run folder: it has no config.json"),
        ("NOT_JSON", "{NOT_JSON}/config.json is damaged, or written by another version of jaxflow"),
        ("ONE_BIT", "{ONE_BIT}/config.json is damaged, or written by another version of jaxflow"),
        ("NO_CHECKPOINT", "{NO_CHECKPOINT}/checkpoints has no checkpoint yet"),
    ],
)
def test_unusable_runs_are_rejected(places, name, says):
    with compiling_nothing(), pytest.raises((ValueError, OSError), match=re.escape(says.format(**places))):
        open_model(places[name], Source()).read()


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ({"worse": "{EMPTY}"}, "{EMPTY} is not a run folder"),
        ({"worse": "{OF_CAPTIONS}"}, "worse = {OF_CAPTIONS}: it was trained on other data, folder"),
        ({"worse": ""}, "worse is empty"),
        ({"data_dir": ""}, "data_dir is empty"),
        ({"preset": "{NOWHERE}.py"}, "PRESET = '{NOWHERE}.py': "),
    ],
)
def test_unusable_sources_are_rejected(places, source, says):
    source = {name: value.format(**places) for name, value in source.items()}
    with pytest.raises((ValueError, OSError), match=re.escape(says.format(**places))):
        open_model(places["RUN"], Source(**source))


@pytest.mark.parametrize("steps", [0, 10**18])
def test_the_steps_of_a_classifier_have_a_range(places, steps):
    with pytest.raises(ValueError, match=f"classifier_steps = {steps}: must be at"):
        open_model(places["RUN"], Source(classifier_steps=steps)).check(Sampler(), "classifier", 0.0, [1.0])


def test_damaged_checkpoints_are_not_trained_over(places, tmp_path, capsys):
    shutil.copytree(places["SPOILED"], tmp_path / "run")
    options = "--network.width 16 --network.depth 1 --network.heads 2"
    arguments = shlex.split(f"digits --out {tmp_path}/run --data-dir {places['DATA']} {options}")
    damaged = pytest.warns(UserWarning, match="'contents.json' is not as it was written")
    with damaged, pytest.raises(SystemExit) as end:
        train.main(arguments)
    assert end.value.code == 2
    assert capsys.readouterr().err.startswith(f"error: {tmp_path}/run/checkpoints: no checkpoint is ")


@pytest.mark.slow
@pytest.mark.parametrize("script", ["train", "sample"])
def test_a_process_ends_with_exit_code_2(script, fill):
    arguments, says = next((arguments, says) for name, arguments, says in SCRIPTS if name == script)
    command = [sys.executable, "-m", f"experiments.{script}", *shlex.split(fill(arguments))]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 2
    assert done.stderr.splitlines() == [line for line in done.stderr.splitlines() if fill(says) in line]
    assert done.stderr.startswith("error: ")
    assert done.stdout == ""
