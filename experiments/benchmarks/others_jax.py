"""MNIST by Google's `hackable_diffusion`, as its notebook `mnist` does it: a recipe of `others.py`.

A U-Net of 32, 64 and 64 channels without attention, RMS norm, time and label added into adaptive norms, which
predicts the data of the straight path (its time is 1 for noise); the loss is that of the data, without a
weight, at times uniform in [0.001, 0.999]; batches of 256, Adam at 5e-4 with gradients of norm 1 at most. It
drops no label, so that only w = 1 is possible. Images are repeated to three channels, as in the notebook, and
the mean of the three is the image that is judged.

The library's sampler makes 2 n - 1 calls for n Heun steps: its last step, to the data, is one of Euler's
and half as long. The notebook's own are 100 steps of ancestral sampling.

Source: hackable_diffusion 1.0.1, `notebooks/mnist.ipynb`; its parts are called, none is copied.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.benchmarks.recipes import BLOCK, CLASSES, Images, Labels

SHAPE = (28, 28, 3)
WIDTH = 256
"""Of the vectors of time and label."""


class Hackable:
    """Its network, training and sampler.

    Args:
        seed: of its parameters, its training and its images.
    """

    batch, guided = 256, False

    def __init__(self, seed: int):
        try:
            from hackable_diffusion import __version__, hd
        except ImportError as error:
            install = "pip install --no-deps hackable_diffusion kauldron && pip install lark"
            raise ValueError(f"hackable needs {error.name}: Python 3.12 or later, {install}") from None
        self._hd, self._network = hd, _network(hd)
        self._process = hd.corruption.GaussianProcess(schedule=hd.corruption.RFSchedule())
        initial_key, self._training_key, self._sampling_key = jax.random.split(jax.random.key(seed), 3)
        self._order = np.random.default_rng(seed)
        shapes = {"input_shape": (1, *SHAPE), "conditioning_shape": {"label": (1,)}}
        initial = partial(self._network.initialize_variables, **shapes, is_training=True)
        self._params = jax.jit(initial)(key=initial_key)["params"]
        self.size = sum(leaf.size for leaf in jax.tree.leaves(self._params))
        self.by = f"hackable_diffusion {__version__}, JAX {jax.__version__}"

    def training(self, images: Images, y: Labels) -> Callable[[], float]:
        """A step on the data, in a new order each epoch."""
        optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(5e-4))
        state, order = optimizer.init(self._params), np.arange(0)
        update, n = jax.jit(lambda *leaves: self._update(optimizer, *leaves)), 0

        def step() -> float:
            nonlocal state, order, n
            if len(order) < self.batch:
                order = self._order.permutation(len(y))
            chosen, order = order[: self.batch], order[self.batch :]
            key, n = jax.random.fold_in(self._training_key, n), n + 1
            self._params, state, loss = update(self._params, state, images[chosen], y[chosen], key)
            return float(loss)

        return step

    def _update(self, optimizer: Any, params: Any, state: Any, images: Any, y: Any, key: jax.Array) -> Any:
        hd = self._hd
        keys = dict(zip(("time", "noise", "dropout"), jax.random.split(key, 3), strict=True))
        data = jnp.tile(images.astype(jnp.float32) / 127.5 - 1, 3)
        times = hd.training.time_sampling.UniformTimeSampler(
            span=hd.jax_helpers.SafeSpan(safety_epsilon=1e-3)
        )
        t = times(key=keys["time"], data_spec=data)
        x, targets = self._process.corrupt(key=keys["noise"], x0=data, time=t)

        def loss(params: Any) -> jax.Array:
            call: Any = {"time": t, "xt": x, "conditioning": {"label": y}, "is_training": True}
            found = self._network.apply({"params": params}, **call, rngs={"dropout": keys["dropout"]})
            return hd.training.NoWeightGaussianLoss()(preds=found, targets=targets, time=t).mean()

        value, gradient = jax.value_and_grad(loss)(params)
        updates, state = optimizer.update(gradient, state)
        return optax.apply_updates(params, updates), state, value

    def sample(self, labels: Labels, w: float, steps: int) -> Images:
        """Images of these classes by the library's Heun sampler; w is 1."""
        sampling, inference = self._hd.sampling, self._hd.inference
        span = {"time_schedule": sampling.UniformTimeSchedule(), "num_steps": 2 * steps}
        stepper = sampling.HeunStep(corruption_process=self._process, **span)
        sampler = sampling.DiffusionSampler(stepper=stepper, **span, store_trajectory=False)
        network = inference.FlaxLinenInferenceFn(network=self._network, params=self._params)

        @jax.jit
        def of(key: jax.Array, y: jax.Array) -> jax.Array:
            noise = jax.random.normal(key, (len(y), *SHAPE))
            call: Any = {"rng": key, "initial_noise": noise, "conditioning": {"label": y}}
            x = sampler(network, **call)[0].xt.mean(axis=-1, keepdims=True)
            return jnp.round((jnp.clip(x, -1, 1) + 1) * 127.5).astype(jnp.uint8)

        blocks = np.split(labels, range(BLOCK, len(labels), BLOCK))
        return np.concatenate(
            [of(jax.random.fold_in(self._sampling_key, i), y) for i, y in enumerate(blocks)]
        )


def _network(hd: Any) -> Any:
    parts, levels = hd.architecture, 3
    backbone = parts.Unet(
        base_channels=32,
        channels_multiplier=(1, 2, 2),
        num_residual_blocks=levels * (2,),
        downsample_fn=parts.AvgPoolDownsample(),
        upsample_fn=parts.ImageResizeUpsample(resize_method="nearest"),
        dropout_rate=(0.0, 0.0, 0.2),
        bottleneck_dropout_rate=0.2,
        self_attention_bool=levels * (False,),
        cross_attention_bool=levels * (False,),
        attention_normalize_qk=False,
        attention_use_rope=False,
        attention_rope_positions_fn=parts.SquareRoPEPositions(),
        attention_num_heads=8,
        attention_head_dim=-1,
        normalization_type=parts.NormalizationType.RMS_NORM,
        normalization_num_groups=None,
        zero_init_output=False,
        activation="gelu",
        skip_connection_fn=parts.NormalizedAddSkip(),
    )
    label = parts.LabelEmbedder(num_classes=CLASSES, num_features=WIDTH, conditioning_key="label")
    time = parts.SinusoidalTimeEmbedder(activation="gelu", embedding_dim=WIDTH, num_features=WIDTH)
    encoder = parts.ConditioningEncoder(
        time_embedder=time,
        conditioning_embedders={"label": label},
        merge_embeddings_fn=parts.SumEmbeddings(),
        conditioning_rules={"time": "adaptive_norm", "label": "adaptive_norm"},
    )
    return hd.diffusion_network.DiffusionNetwork(
        backbone_network=backbone, conditioning_encoder=encoder, prediction_type="x0"
    )
