"""One HTML file to play on: the same noise under every rule, with a slider over the scales.

It has everything inside, pictures too, and needs neither a server nor a network.
"""

import base64
import html
import io
import json
from collections.abc import Sequence

import numpy as np
from PIL import Image

from experiments.report.plots import mosaic
from jaxflow.places import Place
from jaxflow.training.files import atomic_write

LEAST = 280
"""Pixels of a page's pictures across, at least; smaller ones are enlarged by whole factors."""
PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>{title}</title>
<style>
  body {{ font: 15px/1.4 system-ui, sans-serif; margin: 1.5rem; color: #222; }}
  header {{ position: sticky; top: 0; background: #fffd; padding: .5rem 0; }}
  input {{ width: min(40rem, 90vw); vertical-align: middle; }}
  output {{ display: inline-block; min-width: 12rem; font-weight: 600; }}
  main {{ display: flex; flex-wrap: wrap; gap: 1.5rem; }}
  figure {{ margin: 0; }}
  figcaption {{ margin-bottom: .3rem; }}
  img {{ image-rendering: pixelated; display: block; }}
</style>
<h1>{title}</h1>
<p>{rows}</p>
<header><label><input type="range" min="0" max="{last}" value="{first}"> <output></output></label></header>
<main></main>
<script>
const settings = {settings}, panels = {panels};
const slider = document.querySelector("input"), shown = document.querySelector("output");
const images = panels.map(([name, width, pictures]) => {{
  const figure = document.createElement("figure"), caption = document.createElement("figcaption");
  const image = new Image(width);
  caption.textContent = name;
  image.alt = name;
  figure.append(caption, image);
  document.querySelector("main").append(figure);
  return image;
}});
function show() {{
  shown.textContent = settings[slider.value];
  panels.forEach(([, , pictures], i) => images[i].src = "data:image/png;base64," + pictures[slider.value]);
}}
slider.addEventListener("input", show);
show();
</script>
</html>
"""


def write(
    title: str,
    panels: dict[str, Sequence[np.ndarray]],
    settings: Sequence[str],
    rows: Sequence[str],
    file: Place,
) -> None:
    """Write the page.

    Args:
        title: of the page.
        panels: by name, for each setting uint8 images (rows * n, h, w, c), or clips, row after row.
        settings: names of the stops of the slider.
        rows: name of each row.
        file: HTML to write.
    """
    pictures = []
    for name, images in panels.items():
        tiles = [mosaic(each, len(rows)) for each in images]
        width = tiles[0].shape[1] * max(1, LEAST // tiles[0].shape[1])
        pictures.append((name, width, [png(each) for each in tiles]))
    text = PAGE.format(
        title=html.escape(title),
        rows=html.escape("Rows: " + ", ".join(rows)),
        last=len(settings) - 1,
        first=min(1, len(settings) - 1),
        settings=_script(list(settings)),
        panels=_script(pictures),
    )
    with atomic_write(file) as stream:
        stream.write(text.encode())


def png(image: np.ndarray) -> str:
    """A picture as PNG, in base64."""
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, "PNG")
    return base64.b64encode(stream.getvalue()).decode()


def _script(value: object) -> str:
    """JSON that cannot end a script element."""
    return json.dumps(value).replace("<", "\\u003c")
