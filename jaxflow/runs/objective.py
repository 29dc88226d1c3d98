"""What a run minimises, and by which optimiser."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxflow.runs.configuration import Experiment
from jaxflow.runs.run import Run
from jaxflow import losses, per_example, predictions, times
from jaxflow.data.images import to_float
from jaxflow.training import optimizer
from jaxflow.training.step import Loss

LARGEST_WEIGHT = 10.0
"""Of the error of predicted data in the loss; on the linear path that of t = 0.68.

With the weights of flow matching beyond it, a few examples near the data would make up the gradients of their
batches, and what the early times teach would drown; Hang et al. 2303.09556 bound the weight likewise.
"""


def optimizer_of(experiment: Experiment) -> optax.GradientTransformation:
    """The optimiser with the numbers of the experiment."""
    return {"adamw": optimizer.adamw, "muon": optimizer.muon}[experiment.optimizer](
        experiment.learning_rate,
        steps=experiment.steps,
        warmup=experiment.warmup,
        weight_decay=experiment.weight_decay,
        clip=experiment.clip,
    )


def guided_loss(run: Run) -> Loss:
    """Flow matching with condition dropout, a mean over pixels and channels, (b,).

    Of a network of the data it is the error of the data with the weight of flow matching, up to
    `LARGEST_WEIGHT`, since that is infinite at t = 1.
    """
    experiment = run.experiment
    logit_normal = times.logit_normal_law(experiment.time_mean, experiment.time_deviation)
    law = {"uniform": times.uniform_law(), "logit_normal": logit_normal}[experiment.time_law]

    def weight(t):
        of_velocity = predictions.gain(experiment.path, t, source="data", target="velocity") ** 2
        return jnp.minimum(of_velocity, LARGEST_WEIGHT)

    matching: losses.Loss = partial(losses.flow_matching, time_law=law)
    if experiment.prediction == "data":
        matching = partial(losses.score_matching, prediction="data", weight=weight, time_law=law)

    def loss(params, key, batch):
        drop_key, match_key, dropout_key = jax.random.split(key, 3)
        data = to_float(batch["image"])
        drop_keys = per_example.numbered(drop_key, batch["place"])
        y = losses.drop_condition(drop_keys, batch["y"], run.null, experiment.condition_dropout)

        def network(x, t, y):
            # Of the first example here: under pmap and accumulation dropout is of each part by itself.
            rngs = {"dropout": jax.random.fold_in(dropout_key, batch["place"][0])}
            return experiment.network.apply({"params": params}, x, t, y, train=True, rngs=rngs)

        match_keys = per_example.numbered(match_key, batch["place"])
        loss = matching(match_keys, network, experiment.path, data, y)
        return loss / np.prod(run.image_shape)

    return loss
