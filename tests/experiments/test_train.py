"""The training step of the scripts with a real network."""

from functools import cache, partial

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import assert_close, compiling_nothing, random_params

from jaxflow import nn, paths, spaces
from jaxflow.data.codecs import Classes
from jaxflow.devices import mesh, parallel
from jaxflow.runs.configuration import Experiment
from jaxflow.runs.objective import objective, optimizer_of
from jaxflow.runs.run import Run
from jaxflow.training.step import initial_state, train_step

pytestmark = pytest.mark.usefixtures("standard_promotion")


def run_with(dropout=0.1, **numbers) -> Run:
    network = nn.DiT(encode=nn.ClassTable(3), width=16, depth=1, heads=2, dropout=dropout)
    experiment = Experiment(dataset="none", network=network, path=paths.Linear(), steps=10, **numbers)
    return Run(experiment, "", spaces.Pixels((4, 4, 1)), Classes(("a", "b", "c")))


def batch(n=8):
    images = np.random.default_rng(0).integers(0, 256, (n, 4, 4, 1), np.uint8)
    numbers = np.arange(n, dtype=np.int32)
    return jax.device_put({"image": images, "y": numbers % 3, "number": numbers})


def state_of(run, optimizer):
    """The state before the first step, as one program."""
    return jax.jit(lambda: initial_state(run.initial_params(jax.random.key(1)), optimizer))()


def test_one_compilation_and_no_hidden_transfer():
    run = run_with()
    optimizer = optimizer_of(run.experiment)

    @partial(jax.jit, donate_argnums=0)
    @chex.assert_max_traces(n=1)
    def step(state, key, batch):
        return train_step(state, key, batch, loss=objective(run), optimizer=optimizer, ema_decay=0.9)

    state, key, data = state_of(run, optimizer), jax.random.key(2), batch()
    state, _ = step(state, key, data)
    with jax.transfer_guard("disallow"), compiling_nothing():
        for _ in range(3):
            state, metrics = step(state, key, data)
    assert jnp.isfinite(metrics["loss"])


@pytest.mark.parametrize(
    ("eta", "rows_with_gradient"), [(1.0, [False, False, False, True]), (0.0, [True, True, True, False])]
)
@pytest.mark.requirement("R37", "R34")
def test_the_network_never_sees_a_condition_that_was_dropped(eta, rows_with_gradient):
    run = run_with(condition_dropout=eta)
    gradient = jax.jit(jax.grad(lambda params: objective(run)(params, jax.random.key(2), batch()).mean()))
    # Away from the zeros of the initialisation, where no gradient reaches the table.
    inputs = jnp.zeros((1, 4, 4, 1)), jnp.zeros(1), jnp.zeros(1, int)
    params = random_params(run.experiment.network, *inputs)
    table = gradient(params)["encode"]["table"]["embedding"]
    assert np.any(table, axis=1).tolist() == rows_with_gradient


def test_loss_of_an_untrained_network_is_that_of_no_motion():
    """Zero at initialisation, the loss is the mean of (data - noise)^2 per pixel: E data^2 + 1."""
    run = run_with()
    data = batch(4096)
    init, loss = run.initial_params, objective(run)
    values = jax.jit(lambda data: loss(init(jax.random.key(1)), jax.random.key(2), data))(data)
    expected = np.mean((np.asarray(data["image"]) / 127.5 - 1) ** 2) + 1
    assert_close(np.mean(values), expected, 0.02)  # standard error 0.006


def trained(mapping, optimizer, accumulate=1, steps=3):
    """Losses of a few steps and the state after them, for a network without dropout."""
    run = run_with(dropout=0.0, optimizer=optimizer)
    optimizer = optimizer_of(run.experiment)
    step = partial(train_step, loss=objective(run), optimizer=optimizer, ema_decay=0.9, accumulate=accumulate)
    state = state_of(run, optimizer)
    layout = mapping.shard(jax.eval_shape(lambda: state))
    state = jax.device_put(state, jax.tree.map(lambda leaf: leaf.sharding, layout))
    data = jax.device_put(batch(16), mapping.examples)
    key = mapping.everywhere(jax.random.key(2))
    program = mapping.compile(step, state, key, data, {})
    state, losses = mapping.replicate(state), []
    for _ in range(steps):
        state, metrics = program(state, key, data)
        losses.append(metrics["loss"])
    losses, state = jax.device_get((losses, mapping.gather(state)))
    return np.stack(losses), state


@cache
def on_one_device(optimizer):
    return trained(parallel.placement("jit"), optimizer)


@pytest.mark.parametrize(
    ("kind", "devices", "tensor", "accumulate", "optimizer"),
    [
        ("jit", 1, 1, 2, "adamw"),
        ("pmap", 2, 1, 2, "adamw"),
        ("data", 4, 2, 1, "adamw"),
        ("fsdp", 2, 1, 1, "adamw"),
        ("fsdp", 4, 2, 1, "muon"),  # whose steps need whole matrices
    ],
)
@pytest.mark.requirement("R60")
def test_mappings_and_accumulated_parts_give_the_same_numbers(
    kind, devices, tensor, accumulate, optimizer, monkeypatch
):
    monkeypatch.setattr(mesh, "SMALL", 16)
    examples = mesh.over_examples(jax.devices()[:devices], tensor)
    losses, state = trained(parallel.Placement(kind, examples), optimizer, accumulate)
    expected, of_one = on_one_device(optimizer)
    assert_close(losses, expected, 1e-6)
    assert_close(state.params, of_one.params, 1e-4)
    assert_close(state.ema, of_one.ema, 1e-4)
