"""The chapter's and the labs' pictures, from exact Gaussian mixtures, without a trained network.

    python -m experiments.figures NAME [--out FILE]

NAME is path, sampling, guidance, classifier, bridge, or all. Prints the file's path and the caption.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro
from matplotlib.figure import Figure

from experiments.cli import refusing
from experiments.figures import bridge, classifier, guidance, path, sampling

FIGURES = {
    "path": path,
    "sampling": sampling,
    "guidance": guidance,
    "classifier": classifier,
    "bridge": bridge,
}


@dataclass(frozen=True)
class Arguments:
    """Command line of the script."""

    name: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="NAME")]
    """path, sampling, guidance, classifier, bridge, or all."""
    out: Path | None = None
    """File to write, of a kind that matplotlib knows; for `all` a folder. NAME.png here if left out."""


def main(argv: list[str] | None = None) -> None:
    """Run the script."""
    arguments = tyro.cli(Arguments, args=argv, prog="python -m experiments.figures")
    with refusing():
        files = places(arguments.name, arguments.out)
        for file in files.values():
            file.parent.mkdir(parents=True, exist_ok=True)
    for name, file in files.items():
        FIGURES[name].draw().savefig(file)
        print(f"{file}\n{FIGURES[name].CAPTION}")


def places(name: str, out: Path | None) -> dict[str, Path]:
    """The file of each figure asked for."""
    if name == "all":
        return {each: (out or Path()) / f"{each}.png" for each in FIGURES}
    if name not in FIGURES:
        raise ValueError(f"NAME = {name!r}: there are {', '.join(FIGURES)} and all")
    file = out or Path(f"{name}.png")
    kinds = Figure().canvas.get_supported_filetypes()
    if file.suffix.removeprefix(".") not in kinds:
        raise ValueError(f"out = {file}: a file name that ends in {', '.join(kinds)} is needed")
    return {name: file}


if __name__ == "__main__":
    main()
