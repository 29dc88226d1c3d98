"""A trained or published model, trained further on your own pictures: by a low-rank adapter, or whole.

python -m experiments.train fine_tune --model MODEL --data-dir PICTURES --out DIR [--rank 8 | --rank None]
python -m experiments.sample DIR --prompt "..."
"""

from jaxflow.runs.configuration import FineTuning


def experiment() -> FineTuning:
    """A thousand steps of four images, few enough for a large network on one device."""
    return FineTuning(
        dataset="folder",
        steps=1000,
        batch_size=4,
        learning_rate=1e-4,
        warmup=100,
        weight_decay=0.0,
        ema=0.99,
        checkpoint_every=200,
        sample_every=0,
    )
