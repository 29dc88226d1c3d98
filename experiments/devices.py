"""How a script uses the devices that there are: the options that all of them share."""

from dataclasses import dataclass
from typing import Any

from jaxflow.devices import parallel
from jaxflow.devices.parallel import Kind, Placement


@dataclass(frozen=True)
class Devices:
    """Devices of this process and of those beside it; chosen by their number and memory if left out."""

    parallel: Kind = "auto"
    """jit on one device, pmap or data with a copy of the parameters on each, fsdp with the parameters split
    over them. Without a step of training pmap is the same as data."""
    tensor: int = 1
    """Devices over which each kernel is split, for networks too wide for one."""

    def placement(self, shapes: Any) -> Placement:
        """Of a state, or of parameters, of these shapes.

        Raises:
            ValueError: it cannot be had with these devices.
        """
        return parallel.placement(self.parallel, parallel.state_bytes(shapes), self.tensor)
