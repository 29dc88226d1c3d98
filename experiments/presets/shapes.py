"""Text to image: scenes of coloured shapes from their captions; 20 to 25 minutes of training on two cores."""

from experiments.experiment import Experiment
from jaxflow import nn, paths


def experiment() -> Experiment:
    """Diffusion transformer over 64 patches that attends to the caption's words; null is the empty one.

    What an image shows is decided early, at much noise, a plain ground before its objects. So times are
    drawn early; and the network predicts the data, from which it need not carry the noise through.
    """
    return Experiment(
        dataset="shapes",
        network=nn.DiT(
            encode=None, patch=4, width=128, depth=6, heads=2, mlp_ratio=2, text="cross", neighbours=True
        ),
        path=paths.Linear(),
        prediction="data",
        time_law="logit_normal",
        time_mean=-1.0,
        time_deviation=1.2,
        steps=3200,
        batch_size=48,
        optimizer="muon",
        learning_rate=2e-3,
        warmup=100,
        ema=0.998,
    )
