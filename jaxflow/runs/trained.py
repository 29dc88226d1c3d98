"""What the generator requires of a model."""

from typing import Any, Protocol, runtime_checkable

from jaxflow.nn import Change
from jaxflow.predictions import Prediction
from jaxflow.training.step import Params
from jaxflow.typing import Condition, GaussianPath, GuidedField, PairedField


@runtime_checkable
class Trained(Protocol):
    """A `jaxflow.Model`, or anything with these."""

    @property
    def params(self) -> Params:
        """Parameters of the network."""
        ...

    @property
    def path(self) -> GaussianPath:
        """The path it was trained on."""
        ...

    @property
    def prediction(self) -> Prediction:
        """What the network predicts."""
        ...

    @property
    def condition_dropout(self) -> float:
        """Rate of null conditions in training."""
        ...

    @property
    def network(self) -> Any:
        """The network."""
        ...

    @property
    def field(self) -> GuidedField:
        """The velocity (x, t, y) -> (b, *event)."""
        ...

    @property
    def outputs(self) -> PairedField | None:
        """The velocities (x, t, y) -> (auxiliary, final) by one call; None without an auxiliary head."""
        ...

    @property
    def null(self) -> Condition:
        """The unconditional condition of one example."""
        ...

    @property
    def event_shape(self) -> tuple[int, ...]:
        """Shape of one x."""
        ...

    @property
    def shift(self) -> float:
        """Of the time grid."""
        ...

    def to_images(self, events: Any) -> Any:
        """Samples as uint8 images."""
        ...

    def at(self, params: Params) -> Any:
        """This model with other parameters."""
        ...

    def changed(self, change: Change) -> Any:
        """This model with a change of its network's blocks."""
        ...
