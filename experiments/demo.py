"""A local page to play on: class or prompt, guidance scale, rule, solver, steps and seed of any model.

    python -m experiments.demo MODEL [--images N] [--port N] [--no-browser]

The slider over w, a prompt and the seed start no compilation; "several w" draws all of them by one program,
and the film shows x on its way from noise to data. A run draws at every change, a published model, whose
pictures may take minutes, when asked.

The page is served to this machine only, and reads nothing from elsewhere. It needs gradio, an extra.
"""

import math
import os
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Annotated, Any

import jax
import tyro

from experiments import notes
from experiments.cli import line, refusing, script
from experiments.drawing import Drawing, Wish
from experiments.opening import Opened, Source, open_model
from jaxflow import ranges
from jaxflow.data.codecs import Captions, Classes
from jaxflow.places import place
from jaxflow.runs import limits
from jaxflow.runs.sampler import Sampler

HOST = "127.0.0.1"
MOST_IMAGES = 64
MOST_STEPS = 100
"""Of the sliders."""
STYLE = """
.row { display: flex; flex-wrap: wrap; gap: 1rem; }
.row figure { margin: 0; }
.row img { image-rendering: pixelated; max-width: 100%; }
"""
FONT = ["system-ui", "sans-serif"]
"""Of the system: others would be read from elsewhere."""


@dataclass(frozen=True)
class Arguments:
    """Command line of the script."""

    model: tyro.conf.Positional[str]
    """The run folder, or a file from experiments.export, or the folder of a published pipeline."""
    images: int | None = None
    """Images of a class or prompt; if omitted 9, and of a published model 1."""
    port: int | None = None
    """Of the page; if omitted, the first free one from 7860 on."""
    browser: bool = True
    """Whether to open the page in the browser."""
    source: Annotated[Source, tyro.conf.arg(name="")] = field(default_factory=Source)


def main(argv: list[str] | None = None) -> None:
    """Run the script."""
    arguments = tyro.cli(Arguments, args=argv, prog="python -m experiments.demo")
    with refusing():
        check(arguments)
        gradio = imported()
        opened = open_model(place(arguments.model, "MODEL"), arguments.source)
        opened = opened.read()
        drawing = drawing_of(opened, arguments.images)
    print(notes.summary(opened.title, drawing.model))
    blocks = page(gradio, opened.title, drawing, live=opened.trained is not None)
    print(serve(gradio, blocks, server_port=arguments.port, inbrowser=arguments.browser))
    blocks.block_thread()


def check(arguments: Arguments) -> None:
    """Raise a ValueError that names the first argument out of its range."""
    if arguments.images is not None:
        ranges.at_least(1, MOST_IMAGES, images=arguments.images)
    if arguments.port is None:
        return
    ranges.at_least(1, 2**16 - 1, port=arguments.port)
    with socket.socket() as one:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            one.bind((HOST, arguments.port))
        except OSError as error:
            raise ValueError(f"port = {arguments.port}: {error.strerror}; choose another --port") from None


def imported() -> Any:
    """The package gradio, which is not to send anything.

    Raises:
        ValueError: it is not installed.
    """
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    try:
        import gradio
    except ImportError as error:
        raise ValueError(f"the page needs {error.name}, an extra: pip install 'jaxflow[demo]'") from None
    return gradio


def drawing_of(opened: Opened, images: int | None) -> Drawing:
    """How the model draws, a run more images at a time than a published model."""
    n = (9 if opened.trained is not None else 1) if images is None else images
    event = 4 * math.prod(opened.model.event_shape)  # a film has one for each step
    limits.check_images((MOST_STEPS + 1) * (event + math.prod(opened.model.space.image_shape)), images=n)

    def generator(sampler: Sampler, rule: str) -> Any:
        opened.check(sampler, rule, 0.0, ())
        return opened.generator(sampler, rule, 0.0, None)

    return Drawing(opened.model, generator, n)


def page(gradio: Any, title: str, drawing: Drawing, *, live: bool) -> Any:
    """The page, as gradio's Blocks.

    Args:
        gradio: the package.
        title: of the page.
        drawing: draws what the controls say.
        live: whether every change draws, not only the button and the end of a prompt.
    """
    least, most = drawing.limits
    with gradio.Blocks(title=title, analytics_enabled=False, fill_width=True) as blocks:
        with gradio.Row():
            with gradio.Column(scale=1):
                said = said_of(gradio, drawing.model.codec)
                w = gradio.Slider(least, most, min(2.0, most), step=0.25, label="w")
                rule = gradio.Dropdown(drawing.rules, label="rule")
                solver = gradio.Dropdown(drawing.solvers, label="solver")
                name = "calls" if drawing.model.is_map else "steps"
                steps = gradio.Slider(1, MOST_STEPS, drawing.steps, step=1, label=name)
                seed = gradio.Number(0, precision=0, label="seed")
                several = gradio.Checkbox(label="several w")
                film = gradio.Checkbox(label="film", visible=not drawing.of_clips)
                button = gradio.Button("Draw", variant="primary")
            with gradio.Column(scale=3):
                shown = gradio.HTML(elem_id="shown")
                how = gradio.Textbox(show_label=False, interactive=False, elem_id="how")
        controls = [said, w, rule, solver, steps, seed, several, film]
        ends = [button.click, said.submit if isinstance(said, gradio.Textbox) else said.input]
        ends += [one.input for one in controls[1:]] if live else []
        ends += [blocks.load] if live else []
        gradio.on(ends, drawn(drawing), controls, [shown, how], trigger_mode="always_last", api_name="draw")
    return blocks


def said_of(gradio: Any, codec: Any) -> Any:
    """The control of the class or the prompt."""
    if isinstance(codec, Classes):
        return gradio.Dropdown([(name, i) for i, name in enumerate(codec.names)], value=0, label="class")
    some = f"words such as: {' '.join(codec.words[:12])}" if isinstance(codec, Captions) else ""
    return gradio.Textbox(label="prompt", placeholder="none: unconditional", info=some, submit_btn=False)


def drawn(drawing: Drawing) -> Callable[..., tuple[str, str]]:
    """The function of the controls that draws: the pictures, and one line that says how, or why not."""
    compiled = set()

    def draw(
        said: Any, w: float, rule: str, solver: str, steps: int, seed: Any, several: bool, film: bool
    ) -> tuple[str, str]:
        begin = time.perf_counter()
        prompt = None if said == "" else said
        wish = Wish(prompt, float(w), rule, Sampler(int(steps), solver), seed)
        try:
            shown = drawing.pictures(wish) if several else drawing.picture(wish, film=film)
        except (ValueError, OSError, FloatingPointError, MemoryError, jax.errors.JaxRuntimeError) as error:
            return "", line(error)
        program = (several, rule, solver, steps)
        new, seconds = program not in compiled, time.perf_counter() - begin
        compiled.add(program)
        return shown, f"{seconds:.2f} s{', with compilation' if new else ''}"

    return draw


def serve(gradio: Any, blocks: Any, **options: Any) -> str:
    """Serve the page in the background, to this machine only, and return its URL."""
    alone = {"share": False, "ssr_mode": False, "mcp_server": False, "pwa": False, "run_history": False}
    plain = {"quiet": True, "footer_links": [], "enable_monitoring": False, "css": STYLE}
    theme = gradio.themes.Default(font=FONT, font_mono=["monospace"])
    options |= {"server_name": HOST, "prevent_thread_lock": True}
    return str(blocks.launch(theme=theme, **alone, **plain, **options)[1])


if __name__ == "__main__":
    script(main)
