"""A synthetic world of moving shapes, in which text-video alignment can be measured exactly.

`scenes` draws clips from an index, `captions` defines the language that describes them, `reader` recovers
objects, paths and motions from a clip, `alignment` compares them with a caption, and `builder` writes the
TFDS data set `moving_shapes`. The still world is `jaxflow.shapes`.
"""
