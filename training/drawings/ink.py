"""Finds the ink of a drawing, however it was drawn, scanned or photographed.

- **Canvases.** A dark drawing on an even white ground stays as it is. Light lines on a dark ground become dark ones on
  a light ground, colours become grey by their strongest contrast, faint ink becomes black and grey grounds white. A
  frame around the canvas goes, and so do specks beside the drawing.
- **Paper.** Elsewhere the ground is estimated, with its light and shadows, and becomes white. What surrounds a
  sheet of paper and the lines printed on it go. What looks like a photo of something else stays as it is.
"""

import numpy as np
from PIL import Image

from training.drawings.canvas import find_canvas
from training.drawings.marks import Drawing
from training.drawings.photographed import drawing_on_paper

__all__ = ["BLANK", "find_drawing", "is_blank"]

BLANK = "the sketch is blank: draw something, or send an image that shows lines"
"""What is said of a sketch that ``is_blank``."""

_VISIBLE = 12  # grey levels between ground and ink, at least


def find_drawing(image: Image.Image) -> Drawing | None:
    """Finds the drawing in an RGB image; None if it is blank."""
    canvas = find_canvas(image)
    return drawing_on_paper(image) if canvas is None else canvas.drawing()


def is_blank(image: Image.Image) -> bool:
    """Whether an image shows nothing that can be told from its ground."""
    return bool(np.ptp(np.asarray(image.convert("L"))) <= _VISIBLE)
