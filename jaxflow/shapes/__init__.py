"""The drawn world: scenes of coloured shapes from an index, their captions, and an exact reader."""
