"""The chapter's and the labs' figures, from exact Gaussian mixtures without a trained network.

    python -m experiments.figures NAME [--out FILE]

NAME is path, fields, sampling, guidance, classifier, bridge or all. Prints the path and caption of each.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro
from matplotlib.figure import Figure

from experiments.cli import refusing, script
from experiments.figures import bridge, classifier, fields, guidance, path, sampling
from jaxflow.places import Place, place
from jaxflow.ranges import quoted
from jaxflow.training.files import atomic_write

FIGURES = {
    "path": path,
    "fields": fields,
    "sampling": sampling,
    "guidance": guidance,
    "classifier": classifier,
    "bridge": bridge,
}


@dataclass(frozen=True)
class Arguments:
    """Command line of the script."""

    name: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="NAME")]
    """path, fields, sampling, guidance, classifier, bridge or all."""
    out: str | None = None
    """File to write, in a format of matplotlib; for `all` a folder. If omitted, NAME.png in this folder."""


def main(argv: list[str] | None = None) -> None:
    """Run the script."""
    arguments = tyro.cli(Arguments, args=argv, prog="python -m experiments.figures")
    with refusing():
        out = None if arguments.out is None else place(arguments.out, "out")
        files = places(arguments.name, out)
        for file in files.values():
            file.parent.mkdir(parents=True, exist_ok=True)
    for name, file in files.items():
        with atomic_write(file) as stream:
            FIGURES[name].draw().savefig(stream, format=file.suffix.removeprefix("."))
        print(f"{file}\n{FIGURES[name].CAPTION}")


def places(name: str, out: Place | None) -> dict[str, Place]:
    """The file of each chosen figure."""
    if name == "all":
        return {each: (out or Path()) / f"{each}.png" for each in FIGURES}
    if name not in FIGURES:
        raise ValueError(f"NAME = {quoted(name)}: must be one of {', '.join(FIGURES)}, all")
    file = out or Path(f"{name}.png")
    kinds = Figure().canvas.get_supported_filetypes()
    if file.suffix.removeprefix(".") not in kinds:
        raise ValueError(f"out = {file}: the name must end in one of {', '.join(kinds)}")
    return {name: file}


if __name__ == "__main__":
    script(main)
