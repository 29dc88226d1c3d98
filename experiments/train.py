"""Train a preset, or resume its training.

    python -m experiments.train PRESET --out DIR [--steps N] [--seed S] [--data-dir DIR] [--network.width N]
    python -m experiments.train my_preset.py --out DIR

Every field of the preset, its network and its path is an option; `python -m experiments.train PRESET --help`
lists them. A file of your own with a function `experiment()` is a preset too.
"""

import dataclasses
import sys
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Annotated, Any

import jax
import tyro

from experiments import command_line, presets
from experiments.cli import refusing, script
from experiments.presets import Preset
from experiments.report.previews import Previews
from experiments.report.reconstructions import Reconstructions
from jaxflow.data.apart import check_apart
from jaxflow.data.batches import Batch, batches, order
from jaxflow.data.dataset import Dataset
from jaxflow.data.datasets import DEFAULT_FRAMES, DEFAULT_SIZE, OWN_FILES, open_dataset
from jaxflow.devices import parallel, processes
from jaxflow.devices.parallel import Devices, Placement
from jaxflow.nn.inflation import inflated
from jaxflow.nn.jumps import as_jumps
from jaxflow.places import Place, place
from jaxflow.runs import folder, limits, loading, origin
from jaxflow.runs.autoencoder_run import AutoencoderRun, new_autoencoder_run
from jaxflow.runs.configuration import (
    FOLDERS,
    Autoencoding,
    Experiment,
    FineTuning,
    Recipe,
    check,
    described,
    fitted,
)
from jaxflow.runs.coupled import coupled
from jaxflow.runs.fine_tuning import FineTuningRun, new_fine_tuning_run, open_pictures
from jaxflow.runs.folder import AnyRun, open_before
from jaxflow.runs.loading import load_autoencoder
from jaxflow.runs.model import Model
from jaxflow.runs.objective import objective, optimizer_of, schedule_of
from jaxflow.runs.run import Run, new_run, open_data
from jaxflow.spaces import Autoencoder, Space
from jaxflow.training.checkpoint import check_path
from jaxflow.training.lock import Lock
from jaxflow.training.loop import Pictures, Training
from jaxflow.training.step import initial_state

KINDS: dict[type, Any] = {Experiment: Run, Autoencoding: AutoencoderRun, FineTuning: FineTuningRun}


@dataclass(frozen=True)
class Options:
    """The command line without the numbers of the experiment."""

    out: str
    """The run folder, or gs://BUCKET/FOLDER."""
    devices: Annotated[Devices, tyro.conf.arg(name="")] = field(default_factory=Devices)
    data_dir: str | None = None
    """Folder of the prepared data sets; if omitted, TFDS_DATA_DIR or ~/tensorflow_datasets. For `folder`, the
    folder of your images."""
    profile: bool = False
    """Trace steps 6 to 10 of this start into DIR/profile."""


@dataclass(frozen=True)
class Setting:
    """What a training starts from."""

    run: AnyRun
    dataset: Dataset
    out: Place
    before: AnyRun | None
    """The run in the folder, if there is one."""


def main(argv: list[str] | None = None) -> None:
    """Run the script."""
    with ExitStack() as held:
        with refusing():
            preset, experiment, options = processes.together(
                lambda: parse(sys.argv[1:] if argv is None else argv),
                lambda found: described(found[1]) | {"the source of the preset": found[0].source},
            )
            setting = processes.together(lambda: read(preset, experiment, options), _identity)
            training = begin(setting, options, held)
        stopped = training.run()
    if stopped is not None:
        print(f"{setting.out}: stopped by {stopped.name} and saved; the same command resumes")
        sys.exit(128 + stopped)
    print(f"{setting.out}: trained to step {max(training.start, experiment.steps)}")


def _identity(setting: Setting) -> dict[str, Any]:
    """What must be the same in all processes."""
    return {
        "out": str(setting.out),
        "the number of images": len(setting.dataset),
        "the data (fingerprint)": setting.dataset.fingerprint,
        "the classes or words": str(setting.dataset.codec),
        "the run in the folder": str(setting.before and setting.before.experiment),
    }


def begin(setting: Setting, options: Options, held: ExitStack) -> Training:
    """The training, with its folder locked, its state restored and its first batch read."""
    run, out = setting.run, setting.out
    experiment, optimizer = run.experiment, optimizer_of(run.experiment)
    shapes = jax.eval_shape(partial(initial_state, optimizer=optimizer), run.shapes)
    placement = options.devices.placement(shapes)
    sharded = placement.kind == "fsdp" or options.devices.tensor > 1
    limits.check_state(parallel.state_bytes(shapes), sharded=sharded)
    parallel.check_divides(placement.examples, experiment.batch_size, experiment.accumulate)
    stream = partial(
        batches, run.stored(setting.dataset), seed=experiment.seed, batch_size=experiment.batch_size
    )

    def stream_from(start: int) -> Iterator[Batch]:
        found = stream(start=start, sharding=placement.examples)
        if isinstance(run, AutoencoderRun):
            return run.warmed(found, start)
        return coupled(run, found, start, placement.examples) if isinstance(run, Run) else found

    teacher = teacher_of(run)
    loss = objective(run, teacher)
    frozen = run.model if isinstance(run, FineTuningRun) else teacher
    base = None if frozen is None else jax.device_get(frozen.params)  # it was read onto one device
    describe(setting, placement, sum(leaf.size for leaf in jax.tree.leaves(shapes.params)))
    processes.together(lambda: claim(setting, held) if processes.is_first() else None)
    training = Training(
        loss,
        initial_params(setting, teacher),
        stream_from,
        optimizer=optimizer,
        seed=experiment.seed,
        steps=experiment.steps,
        out=out,
        ema_decay=experiment.ema,
        accumulate=experiment.accumulate,
        checkpoint_every=experiment.checkpoint_every,
        log_every=experiment.log_every,
        placement=placement,
        base=base,
        pictures=previews(run, placement, setting.dataset, out / "samples"),
        profile=options.profile,
    )
    if setting.before is not None and 0 < training.start < experiment.steps:
        announce(setting.before.experiment, experiment, training.start)
    return held.enter_context(training)


def teacher_of(run: AnyRun) -> Model | None:
    """The field of which the run learns the map, if there is one.

    Raises:
        ValueError: it is of another kind of data, or on another path.
    """
    place_of = getattr(run.experiment, "distill", None)
    if place_of is None:
        return None
    assert isinstance(run, Run)
    teacher = loading.load(place(place_of, "distill"))
    for name, own in (("path", run.experiment.path), ("codec", run.codec), ("space", run.space)):
        if getattr(teacher, name) != own:
            raise ValueError(f"distill = {place_of}: its {name} is {getattr(teacher, name)}, not {own}")
    if teacher.is_map:
        raise ValueError(f"distill = {place_of}: it is a map, not a field")
    return teacher


def initial_params(setting: Setting, teacher: Model | None) -> Any:
    """A random key -> initial parameters: of a network of images, or of a field, if the run starts from one.

    Raises:
        ValueError: that network is another one.
    """
    run: Any = setting.run
    if teacher is not None and teacher.network == run.experiment.network.clone(encode=teacher.network.encode):
        return lambda key: as_jumps(teacher.params, run.initial_params(key))
    images = getattr(run.experiment, "inflate", None)
    if images is None or setting.before is not None:
        return run.initial_params
    given = loading.load(place(images, "inflate")).params
    initial = lambda key: inflated(given, run.initial_params(key), run.experiment.network)  # noqa: E731
    try:
        jax.eval_shape(initial, jax.eval_shape(jax.random.key, 0))
    except ValueError as error:
        raise ValueError(f"inflate = {images}: {error}") from None
    return initial


def previews(run: AnyRun, *arguments: Any) -> Pictures:
    """Samples of a flow, or reconstructions."""
    if isinstance(run, AutoencoderRun):
        return Reconstructions(run, *arguments)
    return Previews(run, *arguments)


def read(preset: Preset, experiment: Experiment | Autoencoding | FineTuning, options: Options) -> Setting:
    """The run, its data and its folder; nothing is written.

    Raises:
        ValueError: a number of the experiment is out of range, or the data do not suit it.
        OSError: the data do not exist.
    """
    check(experiment)
    limits.check_blocks(getattr(experiment, "network", None))
    out, data_dir = place(options.out, "out"), options.data_dir
    check_path(out / "checkpoints")
    if data_dir is not None:
        data_dir = str(place(data_dir, "data_dir"))
    given = {name: getattr(experiment, name, None) for name in (*FOLDERS, "inflate", "distill")}
    absolute = {name: str(place(it, name).absolute()) for name, it in given.items() if it is not None}
    experiment = replace(experiment, **absolute)  # type: ignore[arg-type]  # resumed from another folder
    if experiment.dataset in OWN_FILES and preset.dataset is None and data_dir is not None:
        check_apart(out, place(data_dir, "data_dir"))
        side = experiment.image_size or DEFAULT_SIZE
        frames = (experiment.frames or DEFAULT_FRAMES,) if experiment.dataset == "clips" else ()
        limits.check_batch(experiment, (*frames, side, side, 3))
    before = open_before(out, KINDS[type(experiment)], preset.classes)
    if isinstance(experiment, FineTuning):
        return fine_tuning(preset, experiment, data_dir, out, before)
    if preset.dataset is None:
        dataset = open_data(experiment, "train", data_dir)
        dataset = replace(dataset, notes=dataset.notes or (counted(dataset, experiment, data_dir),))
    else:
        dataset = own_data(preset, experiment, options)
    order(len(dataset), experiment.seed, experiment.batch_size)
    limits.check_batch(experiment, dataset.image_shape)
    if not isinstance(experiment, Experiment):
        return Setting(new_autoencoder_run(experiment, dataset, data_dir), dataset, out, before)
    if before is not None and dataset.codec != before.codec and _same_data(before.experiment, experiment):
        dataset = dataset.recode(before.codec)  # captions may have been corrected, or classes removed
    space = space_or_autoencoder(experiment, dataset, before)
    return Setting(new_run(fitted(experiment, dataset.codec), dataset, data_dir, space), dataset, out, before)


def fine_tuning(
    preset: Preset, experiment: FineTuning, data_dir: str | None, out: Place, before: FineTuningRun | None
) -> Setting:
    """The same for the further training of a model.

    Raises:
        ValueError: the data do not suit the model.
        OSError: model or data do not exist.
    """
    if preset.dataset is not None:
        raise ValueError("dataset: a preset that fine-tunes a model names its data, and brings none")
    if not experiment.model:
        raise ValueError("model is missing: --model RUN, or the folder of a published pipeline")
    where = place(experiment.model, "model")
    experiment = replace(experiment, model=str(where.absolute()))
    model = loading.load(where, preset.classes)
    dataset = open_pictures(experiment, model, data_dir)
    limits.check_batch(experiment, dataset.image_shape)
    order(len(dataset), experiment.seed, experiment.batch_size)
    return Setting(new_fine_tuning_run(experiment, model, data_dir), dataset, out, before)


def space_or_autoencoder(
    experiment: Experiment, dataset: Dataset, before: Run | None
) -> Space | Autoencoder | None:
    """The space of the run to resume, or the autoencoder in whose latents the flow runs, if there is one."""
    if experiment.autoencoder is None:
        return None
    same = before is not None and before.experiment.autoencoder == experiment.autoencoder
    if before is not None and same and before.space.image_shape == dataset.image_shape:
        return before.space
    return load_autoencoder(experiment.autoencoder)


def counted(dataset: Dataset, experiment: Recipe, data_dir: str | None) -> str:
    """The numbers of training and test images of a prepared data set."""
    held_out = ""
    with suppress(ValueError):  # it has no such split
        held_out = f", {len(open_dataset(experiment.dataset, 'test', data_dir)):,} held out as test"
    return f"{len(dataset):,} images to train on{held_out}"


def _same_data(before: Experiment, now: Experiment) -> bool:
    return all(
        getattr(before, name) == getattr(now, name)
        for name in ("dataset", "image_size", "frames", "rate", "text_encoder")
    )


def own_data(preset: Preset, experiment: Recipe, options: Options) -> Dataset:
    """The data of a preset that brings its own, to which no option applies."""
    assert preset.dataset is not None
    names = ("image_size", "frames", "rate", "text_encoder")
    given = {"data_dir": options.data_dir} | {name: getattr(experiment, name, None) for name in names}
    for name, value in given.items():
        if value is not None:
            raise ValueError(f"{name} = {value}: the preset brings its own data, by dataset(split)")
    return preset.dataset("train")


def describe(setting: Setting, placement: Placement, parameters: int) -> None:
    """Print the data, the devices and the network."""
    experiment, dataset = setting.run.experiment, setting.dataset
    for note in dataset.notes or (f"{len(dataset):,} images to train on",):
        print(f"data: {note}")
    devices = placement.examples.mesh.devices
    kind = f"{devices.size} {devices.flat[0].platform.upper()} device{'s' * (devices.size > 1)}"
    print(f"network: {network_name(experiment)}, {parameters:,} parameters; {kind}, {placement.kind}")
    if experiment.warmup > experiment.steps // 10:
        print(f"warm-up: {experiment.steps // 10} steps, not {experiment.warmup}: a tenth of the run at most")


def network_name(experiment: Recipe) -> str:
    """What is trained."""
    if not isinstance(experiment, FineTuning):
        return type(getattr(experiment, "network", None)).__name__
    return "the whole model" if experiment.rank is None else f"adapter of rank {experiment.rank}"


def announce(before: Recipe, now: Recipe, start: int) -> None:
    """Print how the learning rate changes where a run is resumed on another schedule."""
    old, new = (float(schedule_of(each)(start)) for each in (before, now))
    if (before.steps, before.learning_rate) != (now.steps, now.learning_rate):
        print(
            f"learning rate: the schedule now ends at step {now.steps} instead of {before.steps}; at step"
            f" {start} the rate is {new:.2g} instead of {old:.2g}"
        )


def claim(setting: Setting, held: ExitStack) -> None:
    """Lock the folder for this run, and write the configuration into it."""
    out = setting.out
    folder.make(out)
    held.enter_context(Lock(out))
    folder.store(out, setting.run)
    changed = origin.record(out, setting.dataset)
    if changed is not None:
        print(changed)
    if setting.run.experiment.dataset in OWN_FILES:
        from experiments.report.contact_sheet import contact_sheet

        contact_sheet(setting.dataset, out / "data.png", setting.dataset.notes)
        print(f"{out / 'data.png'}: the images as read")


def parse(argv: list[str]) -> tuple[Preset, Experiment | Autoencoding | FineTuning, Options]:
    """The preset by its name or file, the experiment with the given options, and the other options."""
    if not argv:
        raise ValueError(
            f"PRESET is missing: must be one of {', '.join(presets.names())}, or NAME.py of your own"
        )
    if argv[0] in ("-h", "--help"):
        print(f"{__doc__}\nPresets: {', '.join(presets.names())}")
        sys.exit(0)
    preset = presets.load(argv[0])
    numbers = command_line.options_of("Numbers", preset.experiment)
    own: Any = ("experiment", Annotated[numbers, tyro.conf.arg(name="")], field(default_factory=numbers))
    arguments = dataclasses.make_dataclass("Arguments", [own], bases=(Options,), frozen=True, kw_only=True)
    arguments.__doc__ = Options.__doc__
    given: Any = tyro.cli(arguments, args=argv[1:], prog=f"python -m experiments.train {argv[0]}")
    options = Options(*(getattr(given, each.name) for each in dataclasses.fields(Options)))
    return preset, command_line.with_options(preset.experiment, given.experiment), options


if __name__ == "__main__":
    script(main)
