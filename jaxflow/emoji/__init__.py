"""The pictures of a colour emoji font with their names as captions: a captioned data set on every machine.

`fonts` finds and draws the font, `names` reads figure and skin tone from a name, and `builder` writes the
TFDS data set `emoji`.
"""
