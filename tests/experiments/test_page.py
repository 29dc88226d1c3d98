import base64
import io
import json
import re

import numpy as np
from PIL import Image

from experiments.report import page
from experiments.report.plots import mosaic

ODD = "</script><b>&amp;"


def test_all_pictures_are_in_the_file_and_nothing_else_is_read(tmp_path):
    panels = {
        name: [np.random.default_rng(i).integers(0, 256, (6, 4, 4, 3), np.uint8) for i in range(2)]
        for name in ("classifier_free", ODD)
    }
    page.write(ODD, panels, ["w = 1", "w = 2"], ["cat", ODD], tmp_path / "sweep.html")
    text = (tmp_path / "sweep.html").read_text()
    assert not re.search(r"https?:|(src|href)=", text)
    assert text.count("</script>") == 1
    assert "<title>&lt;/script&gt;&lt;b&gt;&amp;amp;</title>" in text
    found = re.search(r"^const settings = (.*), panels = (.*);$", text, re.MULTILINE)
    assert json.loads(found[1]) == ["w = 1", "w = 2"]
    for (name, images), (title, width, pictures) in zip(panels.items(), json.loads(found[2]), strict=True):
        assert title == name
        for own, picture in zip(images, pictures, strict=True):
            with Image.open(io.BytesIO(base64.b64decode(picture))) as decoded:
                np.testing.assert_array_equal(np.asarray(decoded), mosaic(own, 2))
                assert width % decoded.width == 0
    assert 'max="1"' in text
