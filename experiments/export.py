"""Export the trained model of a run as one file, sufficient for sampling.

    python -m experiments.export DIR [--out FILE]
    python -m experiments.sample FILE --w 1 2

The file has the moving average of the parameters at the newest intact checkpoint, its step and the run's
configuration, as safetensors with a checksum (`jaxflow/runs/exported.py`). It omits the data folder; of a
frozen text encoder it has only the folder's name. Of a fine-tuning the file is the adapter, with the names of
diffusers, for `sample MODEL --adapters FILE` and other programs.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro

from experiments import presets
from experiments.cli import refusing, script
from jaxflow.devices import processes
from jaxflow.places import Place, bucket_errors, place, size
from jaxflow.runs import exported, folder, loading


@dataclass(frozen=True)
class Arguments:
    """Command line of the script."""

    run: tyro.conf.Positional[str]
    """The run folder."""
    preset: str | None = None
    """The preset's file, if it has networks or paths of its own; its code is run."""
    out: str | None = None
    """The file; if omitted, model.safetensors in the run folder."""


def main(argv: list[str] | None = None) -> None:
    """Run the script."""
    arguments = tyro.cli(Arguments, args=argv, prog="python -m experiments.export")
    with refusing():
        directory = place(arguments.run, "run")
        if directory.is_file():
            raise ValueError(f"run = {directory}: it is a file; expected a run folder")
        out = None if arguments.out is None else place(arguments.out, "out")
        file = directory / "model.safetensors" if out is None else out
        classes = () if arguments.preset is None else presets.load(arguments.preset).classes
        tuned = loading.is_fine_tuning(directory)
        run: Any = (
            loading.open_fine_tuning(directory, classes)[0] if tuned else folder.open_run(directory, classes)
        )
        check_out(file)
        step, params = folder.newest_params(directory, run)
        if not processes.is_first():
            return
        try:
            (loading.export_adapter if tuned else folder.export)(file, run, params, step)
        except OSError as error:
            raise OSError(f"out = {file}: {error.strerror or error}: choose another --out") from error
    print(f"{file}: step {step}, {size(file):,} bytes")


def check_out(file: Place) -> None:
    """Raise a ValueError if an export must not replace what is there: anything but another export."""
    with bucket_errors(file):
        link, there, is_folder = isinstance(file, Path) and file.is_symlink(), file.exists(), file.is_dir()
    if link:
        raise ValueError(f"out = {file}: it is a link; name the file itself, or choose another --out")
    if is_folder:
        raise ValueError(f"out = {file}: it is a folder; name a file, {file / 'model.safetensors'}")
    if there and not (file.is_file() and exported.is_exported(file)):
        raise ValueError(f"out = {file}: it exists and is not an exported model; choose another --out")
    if isinstance(file, Path) and not file.parent.is_dir():
        raise ValueError(f"out = {file}: there is no folder {file.parent}; choose another --out")


if __name__ == "__main__":
    script(main)
