"""Display of a prediction in a notebook: one image and a legend, self-contained and without scripts."""

import base64
import io
import re
from html.parser import HTMLParser

import numpy as np
from PIL import Image

from fastfcn.prediction.prediction import Prediction
from fastfcn.prediction.predictor import Predictor
from tests.helpers.tiny import picture


class Tags(HTMLParser):
    """The stack of open tags, and all texts."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[str] = []
        self.texts: list[str] = []

    def handle_starttag(self, tag: str, attrs: list) -> None:
        self.seen.append(tag)
        if tag != "img":
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def read(html: str) -> tuple[Tags, Image.Image]:
    tags = Tags()
    tags.feed(html)
    assert tags.open == []
    [content] = re.findall(r'src="data:image/png;base64,([^"]+)"', html)
    return tags, Image.open(io.BytesIO(base64.b64decode(content)))


def test_the_overlay_and_a_legend(predictor: Predictor):
    prediction = predictor(picture())
    html = prediction._repr_html_()
    tags, image = read(html)
    assert np.array_equal(np.array(image), prediction.overlay())
    shares = prediction.shares()
    listed = [text.strip() for text in tags.texts if text.strip() in predictor.classes]
    assert listed == sorted(shares, key=lambda name: -shares[name])
    for name in listed:
        assert f"background:rgb{predictor.description.classes[predictor.classes.index(name)].color}" in html
    assert "http" not in html
    assert "script" not in tags.seen


def test_png(predictor: Predictor):
    prediction = predictor(picture())
    with Image.open(io.BytesIO(prediction._repr_png_())) as image:
        assert image.format == "PNG"
        assert np.array_equal(np.array(image), prediction.overlay())


def test_a_large_image_is_scaled_down(predictor: Predictor):
    description = predictor.description
    large = Prediction(np.zeros((500, 3000), np.uint8), np.zeros((500, 3000, 3), np.uint8), description)
    assert read(large._repr_html_())[1].size == (960, 160)


def test_names_are_escaped(predictor: Predictor):
    description = predictor.description
    evil = description.classes[0].model_copy(update={"name": "<script>alert(1)</script> & co"})
    description = description.model_copy(update={"classes": (evil, *description.classes[1:])})
    prediction = Prediction(np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3), np.uint8), description)
    tags, _ = read(prediction._repr_html_())
    assert "script" not in tags.seen
    assert any("<script>alert(1)</script> & co" in text for text in tags.texts)


def test_repr_is_one_line(predictor: Predictor):
    """Not the arrays."""
    text = repr(predictor(picture()))
    assert text.startswith("Prediction(64 x 96: ")
    assert len(text) < 120
