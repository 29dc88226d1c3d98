"""Training: a pure step, its optimiser, the loop over steps, and what it leaves on disk."""

from jaxflow.training.loop import Training, fit
from jaxflow.training.optimizer import adamw, muon
from jaxflow.training.step import TrainState, initial_state, train_step

__all__ = ["TrainState", "Training", "adamw", "fit", "initial_state", "muon", "train_step"]
