"""CLIP score: how well an image fits its prompt, by the angle of their embeddings in CLIP's joint space.

    score = max(100 cos(image, text), 0)

The paper multiplies by 2.5 instead of 100 and puts "A photo depicts" before the prompt; torchmetrics, like us
with 100 and the prompt alone, clips the mean of the scores at 0 instead of each.

Source: Hessel et al. 2104.08718, equation 1.
"""

import numpy as np
from jaxtyping import Float


def clip_score(images: Float[np.ndarray, "n d"], texts: Float[np.ndarray, "m e"]) -> Float[np.ndarray, " n"]:
    """The score of each image with its text, from 0 to 100.

    >>> images, texts = np.array([[2.0, 0.0], [0.0, 1.0]]), np.array([[3.0, 0.0], [1.0, -1.0]])
    >>> clip_score(images, texts).tolist()
    [100.0, 0.0]

    Args:
        images: embeddings of the images; not zero.
        texts: those of their texts.

    Raises:
        ValueError: there are not as many images as texts, or their dimensions differ.
    """
    if images.shape != texts.shape:
        raise ValueError(f"texts have the shape {texts.shape}: must be that of the images, {images.shape}")
    images, texts = (
        each / np.linalg.norm(each, axis=1, keepdims=True)
        for each in (np.asarray(images, np.float64), np.asarray(texts, np.float64))
    )
    return np.maximum(100 * np.sum(images * texts, axis=1), 0)
