"""Crafted or damaged configurations: rejected in bounded time, with the name of the field."""

import copy
import dataclasses
import json
import time
from dataclasses import dataclass
from typing import Annotated

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from annotated_types import Interval
from safetensors.numpy import save_file

from experiments.presets import digits, shapes
from jaxflow import nn, paths, spaces
from jaxflow.data.codecs import Captions, Classes
from jaxflow.runs import exported, folder, loading, schema
from jaxflow.runs.configuration import Experiment, fitted
from jaxflow.runs.run import Run

SECONDS = 2
"""Of CPU time, until a configuration is rejected."""
CODEC = Classes(("zero", "one"))


def run_of(experiment=None, codec=CODEC, shape=(8, 8, 1)) -> Run:
    small = digits.experiment().network.clone(width=16, depth=1, heads=2)
    experiment = experiment or dataclasses.replace(digits.experiment(), network=small)
    return Run(fitted(experiment, codec), "", spaces.Pixels(shape), codec)


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    """An exported file, whose configuration is replaced."""
    place = tmp_path_factory.mktemp("hostile") / "model.safetensors"
    run = run_of()
    params = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), run.shapes)
    folder.export(place, run, params, 4)
    return place


def nested(depth):
    value = {"class": "ClassTable", "classes": 2}
    for _ in range(depth):
        value = {"class": "Several", "encoders": [value]}
    return value


def deep(depth):
    value = "x"
    for _ in range(depth):
        value = [value]
    return value


def vp(beta_min, beta_max):
    return {"class": "VariancePreserving", "beta_min": beta_min, "beta_max": beta_max}


NETWORK, ENCODE = ("experiment", "network"), ("experiment", "network", "encode")
HOSTILE = [
    *((path, None) for path in (("experiment",), NETWORK, ("experiment", "path"), ("codec",), ("space",))),
    ((), {}),
    *((path, []) for path in (("experiment",), NETWORK, ("codec",))),
    *((path, "DiT") for path in (("experiment",), NETWORK, ("codec",), ("experiment", "path"))),
    *((NETWORK, {"class": name}) for name in ("DiT", "Popen", "Experiment", 7, None, ["DiT"], "x" * 10**6)),
    *((("experiment", "path"), {"class": name}) for name in ("DiT", "Classes", "VariancePreserving")),
    *(((*NETWORK, "depth"), value) for value in (10**9, 10**400, -1, 0, 1.5, "6", True, None, [6])),
    ((*NETWORK, "depth"), 200),
    (NETWORK, {**schema.encode(nn.UNet(encode=None, channels=(16,) * 8, blocks=16))}),
    *(((*NETWORK, "width"), value) for value in (10**9, 0, 17, 1e300)),
    *(((*NETWORK, "heads"), value) for value in (0, 3, 10**9)),
    *(((*NETWORK, "patch"), value) for value in (0, 3, 10**9)),
    *(((*NETWORK, "dropout"), value) for value in (-0.5, 2.0, "none", float("nan"), float("inf"))),
    *(((*NETWORK, "dtype"), value) for value in ("float8", 32, "eval")),
    *(((*NETWORK, "positions"), value) for value in ("circular", 1)),
    ((*NETWORK, "frequencies"), 10**9),
    ((*NETWORK, "remat"), "yes"),
    ((*NETWORK, "parent"), {"class": "DiT"}),
    *((ENCODE, nested(depth)) for depth in (1, 20, 300)),
    *(
        (ENCODE, value)
        for value in ({"class": "DiT"}, "ClassTable", {"class": "ClassTable", "classes": 10**12})
    ),
    *((("experiment", "steps"), value) for value in (0, "many", 10**30, None)),
    *((("experiment", "accumulate"), value) for value in ("half", 0, 2.5)),
    *((("experiment", "learning_rate"), value) for value in (float("nan"), "fast", -1.0, 0.0)),
    (("experiment", "prediction"), "colour"),
    (("experiment", "condition_dropout"), 2.0),
    (("experiment", "colour"), "red"),
    *((("codec", "names"), value) for value in ("zero", [1, 2], ["a" * 10**6], {"a": 1}, None, [["a"]])),
    *((("codec", "names"), value) for value in ([], ["a", "a"])),
    *((("space", "image_shape"), value) for value in ([0, 8, 1], [10**30, 8, 1])),
    *((("step",), value) for value in (-5, True)),
    *(
        (("space", "image_shape"), value)
        for value in ([8, 8], [8, 8, 0], [-8, 8, 1], "8x8x1", [10**9] * 3, 8)
    ),
    *((("step",), value) for value in ("four", None, 1.5)),
    *((("data_dir",), value) for value in (7, "a" * 10**6)),
    *((("step",), value) for value in (10**400, -1, True, "4", [4], {}, float("nan"), "9" * 10**6)),
    *((("codec", "names"), value) for value in ([""] * 10**6, ["\ud800"], [0.5], [None], deep(900))),
    *(
        (("space", "image_shape"), value)
        for value in ([8.0, 8, 1], [True, 8, 1], [8] * 10**6, [10**6, 10**6, 1])
    ),
    *(((*NETWORK, "depth"), value) for value in (1.0, 1e300, deep(900), {"class": "DiT"}, "1" * 10**6)),
    (NETWORK, schema.encode(nn.UNet(encode=None)) | {"channels": [16] * 10**6}),
    (NETWORK, schema.encode(nn.UNet(encode=None)) | {"channels": []}),
    *((NETWORK, {"class": value}) for value in ("\ud800", "", "__class__", {"class": "DiT"}, [1] * 10**5)),
    ((*NETWORK, "k" * 10**6), 1),
    (("experiment", "\ud800"), 1),
    *((("experiment", "path"), vp(*numbers)) for numbers in ((None, 1.0), ("0", 1.0), (0.1, 10**400))),
    *((("experiment", "learning_rate"), value) for value in (10**400, True, [1e-3], {"class": "Linear"})),
    *((("experiment", "seed"), value) for value in (-1, 2**32, 0.0)),
    *(
        (("codec",), {"class": "FrozenText", "folder": value})
        for value in ("/nowhere", "a\0b", 7, "x" * 10**6)
    ),
    *((("codec",), {"class": "Captions", "words": ["a"], "length": n}) for n in (0, 10**9, 1.5)),
    (("extra",), {"class": "DiT"}),
]
"""Path into the configuration, and the value put there."""


def spoiled(config, path, value):
    config = copy.deepcopy(config)
    if not path:
        return value
    inner = config
    for name in path[:-1]:
        inner = inner[name]
    inner[path[-1]] = value
    return config


@pytest.mark.parametrize("case", range(len(HOSTILE)), ids=lambda i: f"{'.'.join(HOSTILE[i][0])}-{i}")
def test_a_hostile_configuration_is_one_line_in_bounded_time(file, tmp_path, case):
    params, config = exported.read(file)
    exported.write(tmp_path / "model", params, spoiled(config, *HOSTILE[case]))
    start = time.process_time()
    with pytest.raises((ValueError, FileNotFoundError), match=f"{tmp_path}/model") as rejected:
        loading.load(tmp_path / "model")
    assert time.process_time() - start < SECONDS
    assert len(str(rejected.value)) < 2000


def test_images_that_exceed_the_memory_are_rejected_before_they_are_sampled(file, tmp_path):
    """The parameters do not depend on the size of the images, which the schema alone allows."""
    params, config = exported.read(file)
    exported.write(tmp_path / "model", params, spoiled(config, ("space", "image_shape"), [2**16, 2**16, 1]))
    with pytest.raises(ValueError, match=r"image_shape = .* more than the .* of memory"):
        loading.load(tmp_path / "model").sample(0, [0])


@pytest.mark.parametrize(
    "config", ["[" * 200_000, '{"config": ' + "[" * 200_000, "1" * 10**5, "\ud800", "{}"]
)
def test_metadata_that_are_no_configuration_are_rejected(tmp_path, config):
    config = config.encode(errors="replace").decode()
    save_file({"a": np.zeros(3)}, tmp_path / "model", {"jaxflow": config})
    with pytest.raises(ValueError, match=f"{tmp_path}/model is damaged"):
        loading.load(tmp_path / "model")


def test_text_that_nests_without_end_is_rejected(tmp_path):
    (tmp_path / "config.json").write_text("[" * 10**6 + "]" * 10**6)
    with pytest.raises(ValueError, match=r"config\.json is damaged"):
        folder.open_run(tmp_path)


@pytest.mark.parametrize(
    "run",
    [
        run_of(),
        run_of(shapes.experiment(), Captions(("red", "circle"), 4), (32, 32, 3)),
        run_of(dataclasses.replace(digits.experiment(), path=paths.VariancePreserving(0.2, 10.0))),
        run_of(
            dataclasses.replace(
                digits.experiment(),
                network=nn.UNet(
                    encode=nn.CompositeEncoder((nn.ClassTable(2), nn.VectorMLP(3))), channels=(16, 16)
                ),
            )
        ),
    ],
    ids=["dit", "captions", "path", "nested"],
)
def test_what_is_written_can_be_read(run):
    fields = json.loads(json.dumps(folder.encoded(run)))
    assert schema.decode(fields | {"class": "Run"}, Run, (Experiment,)) == run


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Bent:
    """A user's own path."""

    power: Annotated[float, Interval(gt=0)] = 2.0

    def alpha(self, t):
        return t**self.power

    def beta(self, t):
        return 1 - t


def test_a_class_of_your_own_is_read_if_it_is_passed():
    experiment = dataclasses.replace(digits.experiment(), path=Bent(1.5))
    written = schema.encode(experiment, (Bent, Experiment))
    assert schema.decode(written, Experiment, (Bent,)) == experiment
    with pytest.raises(ValueError, match="class = 'Bent' is unknown; if it is your own, pass it to"):
        schema.decode(written, Experiment)
    written["path"]["power"] = -1.0
    with pytest.raises(ValueError, match=r"path\.power = -1\.0: must be greater than 0"):
        schema.decode(written, Experiment, (Bent,))


def test_a_class_with_the_name_of_one_of_ours_is_rejected():
    own = dataclasses.make_dataclass("Linear", [], frozen=True)
    with pytest.raises(ValueError, match="class Linear: jaxflow has a class of that name"):
        schema.encode(own(), (own,))


@pytest.mark.parametrize(
    "path", [paths.DDPM(jnp.linspace(1e-4, 0.02, 10)), paths.from_functions(lambda t: t, lambda t: 1 - t)]
)
def test_what_could_not_be_read_is_not_written(path):
    with pytest.raises(ValueError, match=r"cannot be written to config\.json"):
        schema.encode(dataclasses.replace(digits.experiment(), path=path), (Experiment,))


def test_classes_that_the_network_does_not_have_are_rejected(file, tmp_path):
    params, config = exported.read(file)
    exported.write(tmp_path / "model", params, spoiled(config, ("codec", "names"), ["a", "b", "c"]))
    with pytest.raises(ValueError, match="3 classes, but a network of 2"):
        loading.load(tmp_path / "model")


def test_tensors_below_a_tensor_are_rejected(file, tmp_path):
    tensors = {"a": np.zeros(3), "a/b": np.zeros(3)}
    entry = exported._entry(tensors, exported.read(file)[1])
    save_file(tensors, tmp_path / "model", {exported.ENTRY: entry})
    with pytest.raises(ValueError, match="the names of its tensors contradict each other"):
        loading.load(tmp_path / "model")
