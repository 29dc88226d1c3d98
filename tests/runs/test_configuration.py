import dataclasses
import json

import flax.linen as linen
import jax
import jax.numpy as jnp
import pytest
from conftest import assert_close

from experiments import presets
from jaxflow import losses, paths, per_example, spaces
from jaxflow.data.codecs import Captions, Classes
from jaxflow.predictions import Prediction
from jaxflow.runs import schema
from jaxflow.runs.configuration import Experiment, check, differences, fitted
from jaxflow.runs.objective import objective
from jaxflow.runs.run import Run

LATENT = {"emoji", "emoji_128", "emoji_map", "imagenet256", "mnist_latent", "shapes_latent", "video_256"}
MAPS = {"digits_map", "emoji_map", "mnist_map"}


def preset(name) -> Experiment:
    experiment = presets.load(name).experiment
    missing = [
        each for each in ("autoencoder", "text_encoder", "distill") if getattr(experiment, each, None) == ""
    ]
    return dataclasses.replace(experiment, **dict.fromkeys(missing, "."))


def test_there_are_the_presets():
    pixels = {"digits", "folder", "mnist", "moving_shapes", "shapes", "shapes_dit"}
    autoencoders = {"autoencoder", "autoencoder_of_clips"}
    assert set(presets.names()) == pixels | LATENT | MAPS | autoencoders | {"fine_tune"}


@pytest.mark.parametrize("name", sorted(LATENT))
def test_a_preset_in_latents_needs_an_autoencoder(name):
    experiment = presets.load(name).experiment
    others = [each for each in ("distill", "text_encoder") if getattr(experiment, each) == ""]
    experiment = dataclasses.replace(experiment, **dict.fromkeys(others, "."))
    with pytest.raises(ValueError, match="autoencoder is missing: the preset needs an autoencoder, --auto"):
        check(experiment)


@pytest.mark.parametrize("name", sorted(MAPS))
def test_a_preset_of_a_map_needs_a_field(name):
    experiment = presets.load(name).experiment
    with pytest.raises(ValueError, match="distill is missing: the preset needs a trained field, --distill"):
        check(experiment)


@pytest.mark.parametrize("name", presets.names())
def test_a_preset_survives_json(name):
    kind = type(preset(name))
    text = json.dumps(schema.encode(preset(name), (kind,)))
    assert schema.decode(json.loads(text), kind) == preset(name)
    check(preset(name))


CLASSES, CAPTIONS = Classes(("a", "b")), Captions(("red", "circle"), 4)


@pytest.mark.parametrize(
    ("name", "shape", "codec"),
    [
        ("digits", (8, 8, 1), CLASSES),
        ("mnist", (28, 28, 1), CLASSES),
        ("shapes", (32, 32, 3), CAPTIONS),
        ("shapes_dit", (32, 32, 3), CAPTIONS),
        ("emoji", (8, 8, 32), CAPTIONS),
        ("emoji_128", (16, 16, 32), CAPTIONS),
        ("imagenet256", (32, 32, 4), CLASSES),
        ("mnist_latent", (7, 7, 4), CLASSES),
        ("shapes_latent", (8, 8, 4), CAPTIONS),
        ("folder", (64, 64, 3), CLASSES),
        ("folder", (64, 64, 3), CAPTIONS),
    ],
)
def test_a_preset_fits_its_images(name, shape, codec):
    run = Run(fitted(preset(name), codec), "", spaces.Pixels(shape), codec)
    model = run.model(run.shapes)
    x, t = jnp.zeros((2, *shape)), jnp.zeros(2)
    y = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), codec.null)
    assert jax.eval_shape(lambda params: model.at(params).field(x, t, y), model.params).shape == x.shape
    check(run.experiment)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("steps", 0),
        ("batch_size", 0),
        ("learning_rate", float("nan")),
        ("learning_rate", -1.0),
        ("condition_dropout", 1.5),
        ("condition_dropout", float("nan")),
        ("ema", -0.1),
        ("seed", -1),
        ("steps", 10**9),
        ("warmup", 10**9),
        ("image_size", 100_000),
        ("hold_out", 1.0),
    ],
)
def test_numbers_out_of_range_are_named(field, value):
    with pytest.raises(ValueError, match=f"{field} = "):
        check(dataclasses.replace(preset("digits"), **{field: value}))


@pytest.mark.parametrize("prediction", ["noise", "data", "score"])
def test_an_unbounded_weight_is_rejected(prediction):
    of_velocity = dataclasses.replace(preset("digits"), prediction=prediction, weight="velocity")
    with pytest.raises(ValueError, match=f"weight_limit is missing.* {prediction} prediction diverges"):
        check(of_velocity)
    check(dataclasses.replace(of_velocity, weight_limit=10.0))


def test_an_auxiliary_head_and_the_weight_of_its_loss_go_together():
    digits = preset("digits")
    headed, of_map = digits.network.clone(auxiliary=2), dataclasses.replace(preset("digits_map"), steps=1)
    check(dataclasses.replace(digits, network=headed, auxiliary_weight=0.5))
    for experiment, says in (
        (dataclasses.replace(digits, network=headed), "auxiliary_weight = 0: the auxiliary head .* nothing"),
        (dataclasses.replace(digits, auxiliary_weight=0.5), "auxiliary_weight = 0.5: the network has no aux"),
        (dataclasses.replace(digits, auxiliary_weight=-0.5), "auxiliary_weight = -0.5: must be"),
        (dataclasses.replace(of_map, network=headed, auxiliary_weight=0.5), "of fields, and the objective"),
    ):
        with pytest.raises(ValueError, match=says):
            check(experiment)


def test_differences_are_the_fields_that_a_resumed_run_must_keep():
    old = preset("digits")
    new = dataclasses.replace(old, steps=1, batch_size=7, learning_rate=0.5)
    assert differences(old, new) == [f"batch_size was {old.batch_size} and is 7"]
    wider = dataclasses.replace(old, network=old.network.clone(width=8), path=paths.Cosine())
    assert differences(old, wider) == ["network.width was 128 and is 8", "path was Linear and is Cosine"]


def test_differences_are_short_however_many_there_are():
    old, new = preset("digits"), preset("shapes")
    assert len("; ".join(differences(old, dataclasses.replace(new, dataset="d" * 1000)))) < 400


class Constant(linen.Module):
    """A constant output."""

    encode: None = None

    @linen.compact
    def __call__(self, x, t, y, *, train=False):
        del t, y, train
        return self.param("value", lambda key: jnp.full(x.shape[1:], 0.3))[None] * jnp.ones_like(x)


BATCH = {
    "image": jnp.arange(4 * 256).astype(jnp.uint8).reshape(256, 2, 2, 1),
    "y": jnp.zeros(256, jnp.int32),
    "number": jnp.arange(256),
}


def run_of(**numbers):
    experiment = dataclasses.replace(preset("digits"), network=Constant(), **numbers)
    return Run(experiment, "", spaces.Pixels((2, 2, 1)), CLASSES)


@pytest.mark.parametrize("prediction", Prediction.__args__)
def test_the_loss_of_a_prediction_equals_that_of_the_velocity_it_implies(prediction, standard_promotion):
    """Up to the largest weight; beyond it, the loss is smaller."""
    run = run_of(prediction=prediction, weight="velocity", weight_limit=10.0)
    params = {"value": jnp.full((2, 2, 1), 0.3)}
    loss = objective(run)(params, jax.random.key(5), BATCH)

    times = []

    def field(x, t, y):
        times.append(t)
        return run.model(params).field(x, t, y)

    match_key, _ = jax.random.split(jax.random.key(5))
    dropping = losses.classifier_free(losses.flow_matching, run.codec.null, run.experiment.condition_dropout)
    keys = per_example.numbered(match_key, BATCH["number"])
    expected = dropping(keys, field, paths.Linear(), run.space.encode(BATCH["image"]), BATCH["y"]) / 4
    within = losses.velocity_weight(paths.Linear(), prediction, limit=10.0)(times[0]) < 10
    assert float(jnp.mean(within)) > 0.5
    assert_close(jnp.where(within, loss / expected, 1), jnp.ones(256), 1e-3)
    assert bool(jnp.all(jnp.where(within, True, loss <= expected * 1.001)))


def test_the_loss_of_an_auxiliary_head_is_added_with_its_weight(standard_promotion):
    """To that of the same network without a head; both as by networks of these outputs."""

    class Headed(Constant):
        auxiliary: int = 1

        @linen.compact
        def __call__(self, x, t, y, *, train=False):
            self.sow("intermediates", "auxiliary_output", 2 * jnp.ones_like(x))
            return super().__call__(x, t, y, train=train)

    def loss(network, value, weight=0.0):
        experiment = dataclasses.replace(run_of().experiment, network=network, auxiliary_weight=weight)
        run = dataclasses.replace(run_of(), experiment=experiment)
        return objective(run)({"value": jnp.full((2, 2, 1), value)}, jax.random.key(5), BATCH)

    assert_close(loss(Headed(), 0.3, 0.5), loss(Constant(), 0.3) + 0.5 * loss(Constant(), 2.0), 1e-5)


def test_a_network_in_plain_jax_works_like_a_flax_module(standard_promotion):
    """With the same parameters, loss and field are the same."""

    @dataclasses.dataclass(frozen=True)
    class Plain:
        def init(self, key, x, t, y):
            return {"value": jnp.full(x.shape[1:], 0.3)}

        def apply(self, params, x, t, y):
            return params["value"][None] * jnp.ones_like(x)

    flax_run, plain_run = (
        run_of(),
        dataclasses.replace(run_of(), experiment=dataclasses.replace(run_of().experiment, network=Plain())),
    )
    params = [run.initial_params(jax.random.key(0)) for run in (flax_run, plain_run)]
    pairs = [
        objective(run)(p, jax.random.key(5), BATCH)
        for run, p in zip((flax_run, plain_run), params, strict=True)
    ]
    assert_close(pairs[1], pairs[0], 0.0)
    x, t, y = jnp.ones((1, 2, 2, 1)), jnp.zeros(1), jnp.zeros(1, jnp.int32)
    fields_of = [run.model(p).field(x, t, y) for run, p in zip((flax_run, plain_run), params, strict=True)]
    assert_close(fields_of[1], fields_of[0], 0.0)
    check(dataclasses.replace(plain_run.experiment, network=Plain()))
