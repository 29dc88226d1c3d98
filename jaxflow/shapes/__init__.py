"""A drawn world, in which it is known exactly whether an image shows what its caption says.

`scenes` draws coloured shapes from an index, `captions` has the language that describes them, `reader` reads
an image back, `alignment` holds it against a caption, and `builder` writes the TFDS data set `shapes`.
"""
