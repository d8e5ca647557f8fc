"""The web page in a real browser: how long after the last point of a stroke the photos are painted.

    python bench/page.py --gallery GALLERY --drawings 20 --json page.json

Starts the service on a copy of the gallery, on its own port, opens its page in headless Chromium, and stops both at the
end. Draws the strokes of a drawing with the mouse, point by point, and clears the page after each drawing. Measures, in
the browser and by its clock:

    lifted     from the event of the mouse button's release to the frame that shows the photos
    resting    from the last point to that frame, where the pen stays on the paper for half a second

and how many searches a second of drawing takes, how many of them are given up, their bytes, the time for making a
sketch a PNG file, the time of a whole request, and the service's own share of it.

Browser, driver and service share the machine's cores. The figures do not cover a network, nor thumbnails that the
browser does not have yet; these are counted.
"""

from argparse import Namespace
from pathlib import Path

from measurements.command import Parser, positive, run


def parser() -> Parser:
    found = Parser(__doc__)
    found.add_argument("--gallery", type=Path, required=True, help="folder of the gallery; it is copied")
    found.add_argument("--drawings", type=positive, default=20, help="number of drawings, of six strokes each")
    found.add_argument("--json", type=Path, help="file to write the figures to")
    return found


def measure(options: Namespace) -> None:
    from measurements.page import measure_page

    measure_page(options)


if __name__ == "__main__":
    run(parser(), measure, folders=("gallery",))
