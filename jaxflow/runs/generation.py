"""The generator: guided images from a model, for the scripts, previews and the Python API.

Images are generated block by block by one compiled program. w = 0 and w = 1 are known when it is traced and
cost one network evaluation per stage; every other w is an argument of one program.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding
from jaxtyping import Array, Bool, Float, UInt8

from jaxflow import fields, flow_maps, nn, per_example, ranges, sweeps
from jaxflow.devices import processes
from jaxflow.devices.blocks import in_blocks
from jaxflow.devices.memory import largest_array, memory
from jaxflow.guidance import LogProb
from jaxflow.progress import Steps
from jaxflow.runs import maps, rules
from jaxflow.runs.edits import Edit
from jaxflow.runs.limits import size
from jaxflow.runs.requests import Request, keys_of
from jaxflow.runs.rules import Guides
from jaxflow.runs.sampler import JUMP, ODE, Sampler, check_grid, integrate
from jaxflow.runs.trained import Trained
from jaxflow.training.step import Params
from jaxflow.typing import Condition, GaussianPath, Rule, Scale

LARGEST = 1e38
"""Largest guidance scale, in float32."""
MOST = 256
"""Images in a block whose size was not given."""
SHARE = 1 / 64
"""Fraction of memory for the largest array in a network evaluation: many others are live with it."""


@dataclass(frozen=True, eq=False)
class Generator:
    """Generates images on request, and keeps its compiled programs.

    Raises:
        ValueError: the sampler does not suit the model; the message names the option.
    """

    model: Trained
    sampler: Sampler
    sharding: NamedSharding
    """Sharding of the images over devices."""
    rule: str | Rule = "classifier_free"
    """Guidance rule, or its name."""
    sigma: float = 0.0
    """Diffusion coefficient of the SDE; 0 is the ODE. In a sweep, the largest."""
    worse: Trained | None = None
    """A less trained model, for autoguidance."""
    log_prob: LogProb | None = None
    """A classifier of noisy events, for classifier guidance."""
    show_steps: bool = False
    """Whether the progress bar counts solver steps instead of blocks: for large networks."""

    def __post_init__(self) -> None:
        self.sampler.check(self.model.path, self.model.prediction, self.sigma)
        if isinstance(self.rule, str):
            given = {"worse": self.worse is not None, "log_prob": self.log_prob is not None}
            rules.check(self.rule, **given, network=True, head=self.model.outputs is not None)
            self._check_change()
        if self.worse is not None and not _same(self.model.path, self.worse.path):
            raise ValueError(f"worse: it was trained on the path {self.worse.path}, not on {self.model.path}")
        check_grid(self._solver, self.model.path, self._grid, self.sampler.clip)
        if 2 * self._largest > memory():
            raise ValueError(
                f"image_shape = {self.model.event_shape}: the network allocates an array of"
                f" {size(2 * self._largest)} for one image, more than the {size(memory())} of memory: sample"
                " a model of smaller images"
            )

    def __call__(
        self,
        wanted: Request,
        w: float,
        *,
        seed: int,
        negative: Condition | None = None,
        edit: Edit | None = None,
        params: Params | None = None,
    ) -> UInt8[np.ndarray, "n *image"]:
        """The images of a request at one guidance scale, from the same noise for every w.

        Args:
            wanted: the conditions of the images.
            w: guidance scale.
            seed: of the noise.
            negative: negative condition, which replaces null in guidance; for one image.
            edit: picture that the images start from, or of which they keep a part.
            params: used instead of the model's, during training.

        Raises:
            ValueError: the model cannot be sampled at w, or a picture cannot be edited by the solver.
            FloatingPointError: an image is not finite.
        """
        if edit is not None:
            self.sampler.check_edit(self.model.prediction, self.sigma)
        check_scale(self.rule, self.model.condition_dropout, w)
        if self._solver == JUMP:
            maps.check_jump(self.model.network, self.rule, w)
            if negative is not None:
                raise ValueError("negative: a map jumps away from null only; choose another solver")
        program = self._programs.get(w, partial(self._any_scale, w=np.float32(w)))
        away = self.model.null if negative is None else negative
        networks = self.params if params is None else self.params | {"model": params}

        n, shape = len(wanted.number), self.model.event_shape
        pictures = None if edit is None else np.broadcast_to(edit.data, (n, *shape))

        def draw(block: Request, pictures: Any) -> Any:
            of = None if edit is None else replace(edit, data=pictures)
            events, finite = program(networks, block, away, seed=np.uint32(seed), edit=of)
            return self.model.to_images(events), finite

        images, finite = self._in_blocks(draw, wanted, pictures, f"sample w={w:.6g}", self.block_size)
        _check_finite(finite, w)
        return images

    def sweep(
        self, wanted: Request, scales: Sequence[float], sigmas: Sequence[float], *, seed: int, chunk: int
    ) -> UInt8[np.ndarray, "scales sigmas n *image"]:
        """The images at all scales and diffusion coefficients, by one program, `chunk` settings at a time.

        Raises:
            FloatingPointError: an image is not finite; the message names the settings.
        """
        self._check_traced(scales)
        axes = np.asarray(scales, np.float32), np.asarray(sigmas, np.float32)

        def draw(block: Request, _: None) -> Any:
            events, finite = self._swept(self.params, np.uint32(seed), block, *axes, chunk=chunk)
            images = self.model.to_images(events.reshape(-1, *self.model.event_shape))
            return images.reshape(*finite.shape, *images.shape[1:]), finite

        images, finite = self._in_blocks(draw, wanted, None, f"{self.rule}", max(1, self.block_size // chunk))
        where = [(scales[i], sigmas[j]) for i, j in np.argwhere(~finite.all(axis=0))]
        if where:
            raise FloatingPointError(
                f"{self.rule}: images are not finite at (w, sigma) = {where}; take more --steps"
            )
        return np.moveaxis(images, 0, 2)

    def film(self, wanted: Request, w: float, *, seed: int) -> Float[np.ndarray, "n times *event"]:
        """The events at all times of the grid, by one program for every w; errors as of a call."""
        check_scale(self.rule, self.model.condition_dropout, w)
        self._check_traced([w])

        def draw(block: Request, _: None) -> Any:
            return self._film(self.params, block, self.model.null, seed=np.uint32(seed), w=np.float32(w))

        events, finite = self._in_blocks(draw, wanted, None, f"sample w={w:.6g}", self.block_size)
        _check_finite(finite, w)
        return events

    @property
    def params(self) -> dict[str, Params]:
        """Parameters of all networks involved, as the programs' argument."""
        return {"model": self.model.params} | ({"worse": self.worse.params} if self.worse else {})

    def draw(
        self,
        params: dict[str, Params],
        wanted: Request,
        away: Condition,
        *,
        seed: Any,
        w: Scale,
        sigma: Any,
        edit: Edit | None = None,
        trajectory: bool = False,
    ) -> tuple[Float[Array, "..."], Bool[Array, " b"]]:
        """Events, and which of them are finite: the pure function that the programs compile.

        Args:
            params: as the attribute `params`.
            wanted: what the images show, (b,).
            away: the condition that is guided away from, of one example.
            seed: of the noise.
            w: guidance scale.
            sigma: diffusion coefficient.
            edit: of a picture; if None, samples from noise.
            trajectory: without an edit, the events at all times of the grid, (b, times, *event).
        """
        model = self.model.at(params["model"])
        keys = keys_of(seed, wanted)
        if self._solver == JUMP:
            noise = per_example.normal(keys, model.event_shape)
            events = self._jumps(model, wanted.y, w, noise, trajectory)
            return _examples_first(events, trajectory)
        field: Any = self._rule(self._guides(params))(model.field, wanted.y, away, self.sampler.scale(w))
        field = self.sampler.limited(field, model.path)
        field = fields.observe(field, self._steps.at) if self.show_steps else field
        if edit is not None:
            solver = ODE[self._solver](model.path)
            events = edit.sample(keys, field, model.path, self._grid, solver)
        else:
            noise, walk = per_example.normal(keys, model.event_shape), per_example.fold_in(keys, 1)
            how: Any = {"solver": self._solver, "grid": self._grid, "sigma": sigma}
            how |= {"churn": self.sampler.churn, "trajectory": trajectory}
            events = integrate(walk, field, model.path, noise, **how)
        return _examples_first(events, trajectory)

    def _jumps(self, model: Any, y: Condition, w: Any, noise: Array, trajectory: bool) -> Array:
        """By a map with guidance inside, whose field at w = 0 is that at null and w = 1."""
        y, scale = (per_example.null_like(y, model.null), 1.0) if _is_zero(w) else (y, w)
        start, end = self.sampler.interval or (0.0, 1.0)

        def average(x: Array, t: Array, s: Array) -> Array:
            inside = nn.Guidance(*(jnp.full_like(t, number) for number in (scale, start, end)))
            return model.average(x, t, s, y, inside)

        return flow_maps.sample(average, noise, self._grid, trajectory=trajectory)

    def _check_traced(self, scales: Sequence[float]) -> None:
        """Raise a ValueError if a program for every w cannot sample the model at one of these."""
        if self._solver == JUMP:
            for w in scales:
                maps.check_jump(self.model.network, self.rule, w)
            if 0 in scales:
                raise ValueError("w = 0: in one program for every w, a map's w must be at least 1")

    def _rule(self, guides: Guides) -> Rule:
        return rules.RULES[self.rule](guides) if isinstance(self.rule, str) else self.rule

    def _guides(self, params: dict[str, Params]) -> Guides:
        worse = self.worse.at(params["worse"]).field if self.worse else None
        model = self.model.at(params["model"])
        changed = lambda change: model.changed(change).field  # noqa: E731
        return Guides(self.model.path, self._grid, worse, self.log_prob, changed, model.outputs)

    @property
    def _solver(self) -> str:
        return self.sampler.solver_name(self.model.prediction, self.sigma)

    @cached_property
    def _grid(self) -> Float[Array, " steps"]:
        return self.sampler.times(self.model.path, self.model.prediction, self.model.shift)

    def _in_blocks(
        self, program: Callable[[Request, Any], Any], wanted: Request, pictures: Any, name: str, size: int
    ) -> Any:
        block = lambda part: program(Request(*part[0]), part[1])  # noqa: E731
        of = partial(in_blocks, block, (wanted, pictures), size=size, sharding=self.sharding)
        if not self.show_steps:
            return of(name=name)
        blocks = -(-len(wanted.number) // size)
        with self._steps.shown(name, blocks, processes.is_first()):
            return of()

    @cached_property
    def _steps(self) -> Steps:
        return Steps(np.asarray(self._grid))

    @cached_property
    def _programs(self) -> dict[float, Any]:
        """For the scales that need one network evaluation instead of two."""
        return {w: jax.jit(partial(self.draw, w=w, sigma=self.sigma)) for w in (0.0, 1.0)}

    @cached_property
    def _any_scale(self) -> Any:
        return jax.jit(partial(self.draw, sigma=self.sigma))

    @cached_property
    def _film(self) -> Any:
        return jax.jit(partial(self.draw, sigma=self.sigma, trajectory=True))

    @cached_property
    def _swept(self) -> Any:
        def program(params: Params, seed: Any, block: Request, w: Any, sigma: Any, *, chunk: int) -> Any:
            at = partial(self.draw, params, block, self.model.null, seed=seed)
            swept = sweeps.sweep(at, {"w": w, "sigma": sigma}, chunk=chunk)
            # Examples first, as in all blocks.
            return jax.tree.map(lambda leaf: jnp.moveaxis(leaf, 2, 0), swept)

        return jax.jit(program, static_argnames="chunk")

    @cached_property
    def block_size(self) -> int:
        """Images in a block: the sampler's number, or else as many as fit."""
        if self.sampler.block is not None:
            return self.sampler.block
        fit = np.clip(SHARE * memory() / (2 * self._largest), 1, MOST)  # 2: with and without y
        return processes.of_first(int(fit))

    @cached_property
    def _largest(self) -> int:
        """Bytes of the largest array in a network evaluation of one image, or in its decoding."""
        call = lambda params, x, t, y: self.model.at(params).field(x, t, y)  # noqa: E731
        network = largest_array(call, self.model.params, *self._one)
        return max(network, largest_array(self.model.to_images, self._one[0]))

    def _check_change(self) -> None:
        """Trace the changed network, which raises a ValueError if it has no such block."""
        if self.rule in rules.CHANGES:
            changed = self.model.changed(rules.CHANGES[self.rule])
            jax.eval_shape(lambda params, *one: changed.at(params).field(*one), self.model.params, *self._one)

    @property
    def _one(self) -> tuple[Any, Any, Any]:
        """Shapes of x, t and y of one image."""
        x = jax.ShapeDtypeStruct((1, *self.model.event_shape), jnp.float32)
        y = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct((1, *np.shape(leaf)), leaf.dtype), self.model.null)
        return x, jax.ShapeDtypeStruct((1,), jnp.float32), y


def _is_zero(w: Any) -> bool:
    """Whether w is known to be 0 when a program is traced."""
    return isinstance(w, float) and w == 0


def _check_finite(finite: Bool[np.ndarray, " n"], w: float) -> None:
    if not finite.all():
        raise FloatingPointError(f"w = {w}: images are not finite; use more --steps or a smaller w")


def _examples_first(events: Array, trajectory: bool) -> tuple[Array, Array]:
    """Events (b, ...) of those at one time or at all, and which examples are finite, (b,)."""
    events = jnp.moveaxis(events, 1, 0) if trajectory else events
    return events, jnp.all(jnp.isfinite(events), axis=tuple(range(1, events.ndim)))


def check_scale(rule: str | Rule, condition_dropout: float, w: float) -> None:
    """Raise a ValueError if training with this rate of null conditions left no field for the guidance scale.

    A classifier guides the field at null, rules without null that at y, all other rules both.
    """
    finite = f"the guidance scale must be finite, less than {LARGEST:g}"
    ranges.check(lambda v: (v.ndim == 0) & (abs(v) < LARGEST), finite, w=w)
    of_null = rule == "classifier" or w == 0
    of_y = rule in rules.WITHOUT_NULL or (w == 1 and rule != "plus_plus")
    if condition_dropout == 0 and (of_null or not of_y):
        raise ValueError(
            f"w = {w}: trained with condition_dropout = 0, the model has no unconditional field; only w = 1"
            + (f" without {rule}" if rule in set(rules.NEVER_CONDITIONAL) - set(rules.INTERNAL) else "")
            + " is possible"
        )
    if condition_dropout == 1 and (of_y or not of_null):
        raise ValueError(
            f"w = {w}: trained with condition_dropout = 1, the model never saw a condition; only w = 0 is"
            " possible"
        )


def _same(path: GaussianPath, other: GaussianPath) -> bool:
    """Whether two paths have the same type and numbers."""
    numbers, others = jax.tree.leaves(path), jax.tree.leaves(other)
    alike = type(path) is type(other) and repr(path) == repr(other)
    return alike and all(map(np.array_equal, numbers, others))
