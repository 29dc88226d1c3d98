"""A synthetic world of shapes, in which text-image alignment can be measured exactly.

`scenes` draws coloured shapes from an index, `captions` defines the language that describes them, `reader`
recovers the scene from an image, `alignment` compares it with a caption, and `builder` writes the TFDS data
set `shapes`.
"""
