"""SVG drawings: drawn as they look, and bounded in whatever they hold."""

import base64
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from training.base.errors import ImageError
from training.model.images import describe_image, open_image, read_image

NAMESPACES = 'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'
LINE = '<path d="M0 0 L20 10" stroke="black" stroke-width="2"/>'


def svg(inside, attributes='viewBox="0 0 20 10"'):
    return f"<svg {NAMESPACES} {attributes}>{inside}</svg>".encode()


def ink(content):
    """Share of the drawing that is dark."""
    return float((np.asarray(open_image(content, drawing=True).convert("L")) < 128).mean())


@pytest.mark.parametrize(
    ("attributes", "size"),
    [
        ('viewBox="0 0 20 10"', (1024, 512)),
        ('viewBox="-5,-5 10 20" width="3cm" height="100%"', (512, 1024)),
        ('width="20" height="10"', (1024, 512)),
        ('width="2in" height="96px"', (1024, 512)),
        ('width="1e8" height="1e8"', (1024, 1024)),
        ('viewBox="0 0 1000000 1"', (1024, 1)),
    ],
)
def test_a_drawing_has_the_shape_that_it_says_and_a_size_that_is_bounded(attributes, size):
    facts, image = read_image(svg(LINE, attributes), drawing=True)
    assert facts == ("SVG", *size)
    assert image.size == size
    assert open_image(svg(LINE, attributes), drawing=True, max_pixels=10_000).size <= (100, 100)


@pytest.mark.parametrize(
    "attributes",
    ["", 'viewBox="0 0 0 1"', 'viewBox="0 0 nan 1"', 'width="1e400" height="1"', 'width="5em" height="5em"'],
)
def test_a_drawing_without_a_size_is_refused(attributes):
    with pytest.raises(ImageError, match="without a viewBox, or width and height"):
        read_image(svg(LINE, attributes), drawing=True)


@pytest.mark.parametrize(
    "content",
    [
        svg(LINE),
        b"\xef\xbb\xbf\n<!-- made by hand -->" + svg(LINE),
        b'<?xml version="1.0"?><!DOCTYPE svg PUBLIC "-//W3C//DTD SVG 1.1//EN" "http://localhost/svg11.dtd">'
        + svg(LINE),
        ('<?xml version="1.0" encoding="UTF-16"?>' + svg(LINE).decode()).encode("utf-16"),
        svg(LINE).replace(NAMESPACES.encode(), b""),
        svg(LINE).replace(b"<svg xmlns", b"<s:svg xmlns:s").replace(b"<path", b"<s:path").replace(b"/svg>", b"/s:svg>"),
        svg(f'<defs><g id="a">{LINE}</g></defs><use xlink:href="#a"/>'),
        svg('<style>/* x */ .s { stroke: black; stroke-width: 2 }</style><path class="s" d="M0 0 L20 10"/>'),
        svg('<path style="stroke:black;stroke-width:2" d="M0 0 L20 10"/>'),
        svg(LINE.replace("black", "white")),  # shown on black
    ],
)
def test_what_is_drawn_is_seen(content):
    expected = ink(svg(LINE))
    assert 0.1 < expected < 0.3
    assert min(ink(content), 1 - ink(content)) == pytest.approx(expected, abs=0.01)


def test_filters_masks_and_clips_hide_nothing():
    refer = 'filter="url(#f)" mask="url(#m)" clip-path="url(#c)" style="mask:url(#m);filter:url(#f)"'
    css = "<style>@import url(http://localhost/a.css); path{clip-path:url(#c);filter:url(#f)}</style>"
    parts = '<filter id="f"><feFlood/></filter><mask id="m"/><clipPath id="c"/>'
    assert ink(svg(css + parts + LINE.replace("<path", f"<path {refer}"))) == pytest.approx(ink(svg(LINE)), abs=0.001)


def test_nothing_outside_of_the_file_is_read(tmp_path):
    Image.new("RGB", (20, 10)).save(tmp_path / "black.png")
    (tmp_path / "black.svg").write_bytes(svg('<rect id="a" width="20" height="10"/>'))
    data = base64.b64encode((tmp_path / "black.png").read_bytes()).decode()
    for place in (tmp_path / "black.png", (tmp_path / "black.png").as_uri(), f"data:image/png;base64,{data}"):
        for attribute in ("href", "xlink:href"):
            assert ink(svg(f'<image {attribute}="{place}" width="20" height="10"/>')) == 0
            assert ink(svg(f'<defs><pattern id="p"><image {attribute}="{place}"/></pattern></defs>')) == 0
    for place in (tmp_path / "black.svg", (tmp_path / "black.svg").as_uri()):
        assert ink(svg(f'<use href="{place}#a"/><use xlink:href="{place}#a"/>')) == 0


def test_what_could_act_or_lead_elsewhere_is_not_even_passed_on(monkeypatch):
    given = []

    def note(command, **options):
        given.append(options["input"].decode())
        raise subprocess.TimeoutExpired(command, 1)

    monkeypatch.setattr(subprocess, "run", note)
    css = "fill:url(away); stroke:url( 'away' ); marker:url(#here)"
    sheet = f'<style>@import "away"; @import url(away); a{{{css}}}</style>'
    parts = f'<rect fill="url(away)" onload="x" style="{css}"/><script href="away">away</script><text>away</text>'
    with pytest.raises(ImageError):
        read_image(svg(f'{sheet}{parts}<a href="away"><g/></a>'), drawing=True)
    [text] = given
    for part in ("away", "script", "onload", "text", "import"):
        assert part not in text
    assert "url(#here)" in text


def nested_use(levels):
    groups = '<g id="l0"><path d="M0 0h1v1z"/></g>'
    for level in range(1, levels):
        groups += f'<g id="l{level}"><use href="#l{level - 1}"/><use href="#l{level - 1}"/></g>'
    return svg(f'<defs>{groups}</defs><use href="#l{levels - 1}"/>')


BOMBS = {
    "parts of parts": nested_use(40),
    "laughs": b'<!DOCTYPE svg [<!ENTITY a "ha"><!ENTITY b "&a;&a;">]>' + svg("&b;"),
    "an entity from a file": b'<!DOCTYPE svg [<!ENTITY a SYSTEM "file:///etc/passwd">]>' + svg("&a;"),
    "parameters": b"<!DOCTYPE svg [<!ENTITY % a \"<!ENTITY b 'x'>\"> %a;]>" + svg(""),
    "depth": svg("<g>" * 100_000 + "</g>" * 100_000),
    "bytes": svg("<!--" + "x" * (5 << 20) + "-->"),
    "styles": svg(
        "<style>" + "".join(f".a{n}{{fill:red}}" for n in range(50_000)) + "</style>" + '<path class="a1"/>' * 20_000
    ),
}


@pytest.mark.parametrize("content", BOMBS.values(), ids=BOMBS)
def test_bombs_are_refused(content):
    with pytest.raises(ImageError, match="SVG drawing") as caught:
        read_image(content, drawing=True)
    assert "\n" not in caught.value.reason


def shown_again(levels, width):
    """A line that is shown ``width`` times, that as often again, and so on."""
    groups = [f'<g id="l0">{LINE}</g>']
    groups += [f'<g id="l{n}">{f"""<use href="#l{n - 1}"/>""" * width}</g>' for n in range(1, levels + 1)]
    return svg(f'<defs>{"".join(groups)}</defs><use href="#l{levels}"/>')


@pytest.mark.parametrize("content", [shown_again(5, 10), shown_again(2, 300), shown_again(17, 2)])
def test_a_small_file_that_draws_much_is_refused_before_it_is_drawn(content, monkeypatch):
    monkeypatch.setattr(subprocess, "run", None)
    with pytest.raises(ImageError, match="parts of itself more than 50,000 times over"):
        read_image(content, drawing=True)


def test_parts_that_are_shown_a_few_times_are_drawn():
    assert ink(shown_again(2, 10)) > 0
    many = "".join(f'<g id="p{n}">{LINE}</g>' for n in range(500))  # each only once
    assert ink(svg(many)) > 0


def test_a_part_of_itself_ends():
    assert ink(svg(f'<g id="a"><use href="#a"/>{LINE}</g>')) == pytest.approx(ink(svg(LINE)), abs=0.01)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (svg(LINE)[:-3], "damaged SVG"),
        (b"<html><svg></svg></html>", "XML, but not an SVG drawing"),
        (b"<svg" + b"\0" * 100, "damaged SVG"),
        (b"<html>404</html>", "not an image in a known format"),
    ],
)
def test_what_is_no_drawing(content, message):
    with pytest.raises(ImageError, match=message):
        read_image(content, drawing=True)


def test_photos_are_no_drawings():
    for read in (read_image, describe_image):
        with pytest.raises(ImageError, match="an SVG drawing, which only sketches may be"):
            read(svg(LINE))


def test_without_its_package_a_drawing_is_refused_and_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "resvg_py", None)
    with pytest.raises(ImageError, match=r'an SVG drawing, which pip install "svdraw\[formats\]" makes readable'):
        read_image(svg(LINE), drawing=True)


def test_a_drawing_that_takes_too_long_is_ended(monkeypatch):
    def never(command, *, timeout, **_):
        raise subprocess.TimeoutExpired(command, timeout)

    monkeypatch.setattr(subprocess, "run", never)
    with pytest.raises(ImageError, match="takes too long"):
        read_image(svg(LINE), drawing=True)
