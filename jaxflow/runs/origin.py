"""data.json of a run folder: the data with which the run began, to detect changes."""

import json

from jaxflow.data.dataset import Dataset
from jaxflow.places import Place
from jaxflow.runs.folder import write_json

NAME = "data.json"


def record(directory: Place, dataset: Dataset) -> str | None:
    """Write the count and the fingerprint of the data when a run begins; later, say how they differ.

    Returns:
        A sentence for the user, or None if the data are those the run began with.

    Raises:
        ValueError: the file is damaged.
        OSError: it cannot be read or written.
    """
    file, now = directory / NAME, {"images": len(dataset), "fingerprint": dataset.fingerprint}
    if not file.exists():
        write_json(file, now)
        return None
    try:
        before = json.loads(file.read_text())
        images, fingerprint = int(before["images"]), str(before["fingerprint"])
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{file} is damaged ({error!r}): delete it to continue training on the current data"
        ) from None
    if fingerprint == now["fingerprint"]:
        return None
    counts = f"{images:,} images then, {now['images']:,} now"
    return f"data: changed since the run began ({counts}); training continues on the current data"
