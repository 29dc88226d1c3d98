"""The loss a run minimises, and its optimiser."""

import math
from collections.abc import Callable
from functools import cache, partial
from typing import Any

import flax.linen as linen
import jax
import jax.numpy as jnp
import optax

from jaxflow import autoencoding, fields, losses, map_losses, nn, per_example, times
from jaxflow.predictions import Prediction
from jaxflow.pretrained import perceptual
from jaxflow.runs import maps
from jaxflow.runs.autoencoder_run import AutoencoderRun
from jaxflow.runs.configuration import Experiment, Recipe
from jaxflow.runs.fine_tuning import FineTuningRun
from jaxflow.runs.model import Model
from jaxflow.runs.run import Run
from jaxflow.spaces import Pixels
from jaxflow.spaces.autoencoder import applied
from jaxflow.training import optimizer
from jaxflow.training.step import Objective, Params

DISTRIBUTIONS: dict[str, Callable[[float, float], Any]] = {
    "uniform": lambda mean, deviation: times.uniform_distribution(),
    "logit_normal": times.logit_normal_distribution,
}
"""Of t, by name, from mean and deviation of its logit."""


@cache
def optimizer_of(experiment: Recipe) -> optax.GradientTransformation:
    """The optimiser with the experiment's numbers."""
    return {"adamw": optimizer.adamw, "muon": optimizer.muon}[experiment.optimizer](
        experiment.learning_rate,
        steps=experiment.steps,
        warmup=experiment.warmup,
        weight_decay=experiment.weight_decay,
        clip=experiment.clip,
    )


def schedule_of(experiment: Recipe) -> optax.Schedule:
    """The learning rate by step."""
    return optimizer.schedule(experiment.learning_rate, experiment.steps, experiment.warmup)


def times_of(experiment: Experiment) -> times.Distribution:
    """The distribution of t."""
    make = DISTRIBUTIONS[experiment.time_distribution]
    return make(experiment.time_mean, experiment.time_deviation)  # type: ignore[no-any-return]


def ends_of(experiment: Experiment) -> times.Ends:
    """The distribution of t and s of a map."""
    if experiment.objective == "consistency":
        return times.to_data(times_of(experiment))
    return times.intervals(times_of(experiment), instants=experiment.instants)


def loss_of(experiment: Experiment) -> losses.Loss:
    """The loss with its prediction, weight and time distribution."""
    return partial(
        losses.flow_matching,
        prediction=experiment.prediction,
        weight=_weight_of(experiment, experiment.prediction),
        time_distribution=times_of(experiment),
        edge_weight=experiment.edge_weight,
    )


@cache
def objective(run: Run | AutoencoderRun | FineTuningRun, teacher: Model | None = None) -> Objective:
    """(params, key, batch) -> (b,): the loss, averaged over the numbers of an event, or pixels and channels.

    Keys belong to examples, see `per_example`, except those of a network's dropout.

    Args:
        run: what is trained.
        teacher: the field whose map it is, whose parameters then are the frozen ones of (params, frozen).
    """
    if isinstance(run, AutoencoderRun):
        return _of_autoencoder(run)
    if isinstance(run, FineTuningRun):
        model, chosen = run.with_frozen, run.experiment
        distribution = DISTRIBUTIONS[chosen.time_distribution](0.0, 1.0)
        loss = partial(losses.flow_matching, prediction=model.prediction, time_distribution=distribution)
        return _of_flow(model, loss, chosen.condition_dropout)
    experiment = run.experiment
    if experiment.objective != "field":
        return _of_map(run, teacher)
    weights = experiment.still_weight, experiment.auxiliary_weight
    return _of_flow(run.model(run.shapes), loss_of(experiment), experiment.condition_dropout, *weights)


def _of_autoencoder(run: AutoencoderRun) -> Objective:
    experiment, network, pixels = run.experiment, run.experiment.network, Pixels(run.image_shape)
    distance = None if experiment.perceptual is None else perceptual.load(experiment.perceptual)

    def discriminate(params: Params, images: jax.Array) -> Any:
        return experiment.discriminator.apply({"params": params}, images)

    def of(params, key, batch):
        images, of_network = pixels.encode(batch["image"]), params["autoencoder"]
        value, decoded = autoencoding.loss(
            per_example.numbered(key, batch["number"]),
            partial(applied, network, of_network, method="encode"),
            partial(applied, network, of_network, method="decode"),
            images,
            beta=batch["beta"],
            distortion=experiment.distortion,
            variational=network.variational,
        )
        value = value / math.prod(run.image_shape)
        if distance is not None:
            value += experiment.perceptual_weight * distance(images, decoded)
        if "discriminator" in params:
            judged = (params["discriminator"], images, decoded, batch["adversarial"])
            value += autoencoding.adversarial(discriminate, *judged)
        return value

    return of


def _of_flow(
    model: Model,
    loss: Callable[..., Any],
    condition_dropout: float,
    still_weight: float = 0.0,
    auxiliary_weight: float = 0.0,
) -> Objective:
    """Of the network of a model, at whatever parameters, by `losses.flow_matching` with its options."""
    space, network = model.space, model.network
    make: Any = fields.from_network
    if auxiliary_weight:
        make, loss = fields.with_auxiliary, partial(loss, auxiliary_weight=auxiliary_weight)

    def dropped(noise: jax.Array | None) -> losses.Loss:
        return losses.classifier_free(partial(loss, noise=noise), model.null, condition_dropout)

    def of(params, key, batch):
        match_key, dropout_key, latent_key, still_key = jax.random.split(key, 4)
        # By the first example here: under pmap and accumulation each part has dropout of its own.
        rngs = {"dropout": jax.random.fold_in(dropout_key, batch["number"][0])}
        # Without `prediction` the field is the raw output of the network.
        options: Any = {"train": True, "rngs": rngs} if isinstance(network, linen.Module) else {}
        field = make(network, params, model.path, **options)
        keys, latent_keys, still_keys = (
            per_example.numbered(key, batch["number"]) for key in (match_key, latent_key, still_key)
        )
        data = space.events(batch[space.entry], latent_keys)
        matching = dropped(batch.get("noise"))  # None where the coupling is independent
        value = matching(keys, field, model.path, data, batch["y"]) / math.prod(space.event_shape)
        if still_weight:  # an image is a clip of one frame
            still = dropped(None)(still_keys, field, model.path, data[:, :1], batch["y"])
            value += still_weight * still / math.prod(space.event_shape[1:])
        return value

    return of


def _of_map(run: Run, teacher: Model | None) -> Objective:
    """Of a flow map: velocities are compared, with the weight of the experiment's prediction."""
    experiment, model = run.experiment, run.model(run.shapes)
    network: Any = experiment.network
    space, null = model.space, model.null
    most, rule = experiment.w_most, maps.rule_of(experiment.distill_rule, experiment.path)
    loss: Any = partial(
        map_losses.flow_map,
        ends=ends_of(experiment),
        guide=None if most is None or teacher is not None else maps.guide_inside(null),
        weight=_weight_of_velocity(experiment),
        adaptive=experiment.adaptive,
        edge_weight=experiment.edge_weight,
        **maps.OPTIONS[experiment.objective],
    )

    def of(params, key, batch):
        dropout_key, *others = jax.random.split(key, 5)
        keys = [per_example.numbered(other, batch["number"]) for other in others]
        loss_keys, drop_keys, latent_keys, guidance_keys = keys
        rngs = {"dropout": jax.random.fold_in(dropout_key, batch["number"][0])}
        options: Any = {"prediction": experiment.prediction, "train": True, "rngs": rngs}
        params, frozen = params if teacher is not None else (params, None)
        known = None if teacher is None else maps.guided_field(teacher.at(frozen).field, null, rule)
        average = maps.average_of(fields.from_network(network, params, model.path, **options))
        y = losses.drop_condition(drop_keys, batch["y"], null, experiment.condition_dropout)
        guidance = None if most is None else maps.draw_guidance(guidance_keys, most)
        data = space.events(batch[space.entry], latent_keys)
        jump = nn.Jump(y, per_example.times(0.0, data), guidance)
        return loss(loss_keys, average, model.path, data, jump, velocity=known) / math.prod(space.event_shape)

    return of


def _weight_of(experiment: Experiment, prediction: Prediction) -> losses.Weight | None:
    """The experiment's weight by name, of the error of a prediction."""
    path, limit = experiment.path, experiment.weight_limit
    match experiment.weight:
        case "minimum_snr":
            return losses.minimum_snr_weight(path, prediction, **({} if limit is None else {"gamma": limit}))
        case "sigmoid":
            bias = {} if limit is None else {"bias": math.log(limit)}
            return losses.sigmoid_weight(path, prediction, **bias)
        case "velocity":
            return losses.velocity_weight(path, prediction, limit=limit)
    return None


def _weight_of_velocity(experiment: Experiment) -> losses.Weight | None:
    """The weight of the error of the velocity that makes it the experiment's own loss."""
    if experiment.weight in ("minimum_snr", "sigmoid"):
        return _weight_of(experiment, "velocity")
    if experiment.prediction == "velocity":
        return None
    whole = losses.velocity_weight(experiment.path, experiment.prediction)
    limit = 1.0 if experiment.weight == "own" else experiment.weight_limit or math.inf
    return lambda t: jnp.minimum(whole(t), limit) / whole(t)
