"""Options of `sample` for a picture that the images vary, or of which they keep a part."""

from dataclasses import dataclass
from typing import Annotated

import numpy as np
import tyro
from PIL import Image

from jaxflow.data.pictures import read_picture
from jaxflow.places import place
from jaxflow.runs.edits import Edit, edit
from jaxflow.spaces import Space

HALF = 128
"""Grey level from which a mask is white."""


@dataclass(frozen=True)
class Picture:
    """A picture to start from."""

    picture: Annotated[str | None, tyro.conf.arg(name="from")] = None
    """Picture to vary, or with --mask to draw anew in part; cropped and resized to the size of the images. Of
    clips, their first frame."""
    strength: float | None = None
    """How far the images may differ from the picture: 0 not at all, 1 entirely. The default is 0.6."""
    mask: str | None = None
    """Picture, white where to draw anew and black where to keep --from."""
    repeats: int | None = None
    """With --mask, how often each step is made, so that new and kept parts agree better. The default is 1."""

    def read(self, space: Space) -> Edit | None:
        """The edit; None without a picture.

        Raises:
            ValueError: a file cannot be read, or an option has no effect without another.
            OSError: a file does not exist.
        """
        if self.picture is None:
            for name in ("strength", "mask", "repeats"):
                if getattr(self, name) is not None:
                    raise ValueError(f"{name} has no effect without --from, a picture to start from")
            return None
        if self.mask is not None and self.strength is not None:
            raise ValueError("strength has no effect with --mask: the rest of the picture is kept")
        if self.mask is None and self.repeats is not None:
            raise ValueError("repeats has no effect without --mask")
        *frames, height, width, channels = space.image_shape
        image = read_picture(place(self.picture, "from"), height, width)[0]
        if channels == 1:
            image = np.asarray(Image.fromarray(image).convert("L"))[..., None]
        if frames:
            if (self.strength, self.mask, self.repeats) != (None, None, None):
                raise ValueError("strength, mask, repeats: have no effect on the first frame of a clip")
            return edit(space, image)
        if self.mask is None:
            return edit(space, image, strength=0.6 if self.strength is None else self.strength)
        mask = read_picture(place(self.mask, "mask"), height, width)[0].mean(axis=-1) >= HALF
        return edit(space, image, mask=mask, repeats=1 if self.repeats is None else self.repeats)
