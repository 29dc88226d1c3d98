"""The trained model of a run as one file, from which alone one can sample.

    python -m experiments.export DIR [--out FILE]
    python -m experiments.sample FILE --w 1 2

The file has the moving average of the parameters at the newest whole checkpoint, its step and the run's
configuration, as safetensors with a checksum, see `jaxflow/runs/exported.py`. The folder of the data is
left out, and of a frozen text encoder the file has the folder's name only.
"""

from dataclasses import dataclass
from pathlib import Path

import tyro

from experiments import presets
from experiments.cli import refusing, script
from jaxflow.devices import processes
from jaxflow.runs import folder


@dataclass(frozen=True)
class Arguments:
    """Command line of the script."""

    run: tyro.conf.Positional[Path]
    """The run folder."""
    preset: str | None = None
    """The preset's file, for a run of one with networks or paths of its own; its code is run."""
    out: Path | None = None
    """The file; model.safetensors in the run folder if left out."""


def main(argv: list[str] | None = None) -> None:
    """Run the script."""
    arguments = tyro.cli(Arguments, args=argv, prog="python -m experiments.export")
    with refusing():
        file = checked(arguments)
        classes = () if arguments.preset is None else presets.load(arguments.preset).classes
        run = folder.open_run(arguments.run, classes)
        step, params = folder.newest_params(arguments.run, run)
        if not processes.is_first():
            return
        folder.export(file, run, params, step)
    print(f"{file}: step {step}, {file.stat().st_size:,} bytes")


def checked(arguments: Arguments) -> Path:
    """The file to write, after a check that the arguments are of the right kind."""
    if arguments.run.is_file():
        raise ValueError(f"run = {arguments.run}: it is a file; the run folder is needed")
    file = arguments.out or arguments.run / "model.safetensors"
    if file.is_dir():
        raise ValueError(f"out = {file}: it is a folder; name a file, {file / 'model.safetensors'}")
    return file


if __name__ == "__main__":
    script(main)
