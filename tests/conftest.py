import os
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import hypothesis
import pytest
import torch
from PIL import Image, ImageDraw

from training.base.machine import processors
from training.inference.exports import exported_backbone
from training.inference.ranges import find_ranges
from training.model.backbones import build_backbone
from training.model.bundle import copy_bundle, load_bundle, save_bundle, set_int8
from training.model.encoders import EncoderConfig, PairedEncodersConfig, build_encoders
from training.model.heads import HeadConfig
from training.model.preprocessing import Preprocessing
from training.model.quantisation import SHARED, Comparison, Quantisation

# The same examples in every run, whatever the machine does meanwhile; --hypothesis-profile=default tries others.
hypothesis.settings.register_profile(
    "same", derandomize=True, deadline=None, suppress_health_check=list(hypothesis.HealthCheck)
)
hypothesis.settings.load_profile("same")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """One process more than there are cores, because tests wait a quarter of their time for processes they started."""
    return processors() + 1


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files that take long come first, so that no process is alone with one of them in the end."""
    items.sort(key=lambda item: item.get_closest_marker("long") is None)


SHAPES: dict[str, Callable[[ImageDraw.ImageDraw, tuple[int, int, int, int], dict], None]] = {
    "circle": lambda draw, box, style: draw.ellipse(box, **style),
    "square": lambda draw, box, style: draw.rectangle(box, **style),
    "line": lambda draw, box, style: draw.line(box, fill=style["outline"], width=style["width"]),
    "triangle": lambda draw, box, style: draw.polygon(
        [(box[0], box[3]), (box[2], box[3]), ((box[0] + box[2]) // 2, box[1])], **style
    ),
}
COLOURS = ("red", "green", "blue", "orange", "purple", "teal")


def draw_shape(shape: str, variant: int, *, filled: bool, size: int = 64) -> Image.Image:
    """A small picture of a shape; variants differ in place, size and (filled) colour."""
    image = Image.new("RGB", (size, size), "white")
    inset = size // 8 + variant % 5
    box = (inset + variant % 3, inset, size - inset, size - inset - variant % 4)
    style = {"outline": "black", "width": 2 + variant % 2}
    if filled:
        style["fill"] = COLOURS[variant % len(COLOURS)]
    SHAPES[shape](ImageDraw.Draw(image), box, style)
    return image


@pytest.fixture(scope="session")
def tiny_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained bundle with a tiny backbone: 16 dimensions, 64 px."""
    torch.manual_seed(0)
    encoder = EncoderConfig(preprocessing=Preprocessing(size=64), head=HeadConfig(features=256, dim=16))
    config = PairedEncodersConfig(backbone="test_efficientnet", sketch=encoder, photo=encoder)
    encoders = build_encoders(config, build_backbone(config.backbone, multi_scale=False))
    directory = tmp_path_factory.mktemp("bundle")
    save_bundle(directory, encoders, [1 / (mode + 1) for mode in range(16)], sufficient_dimensions=12)
    return directory


@pytest.fixture(scope="session")
def int8_bundle(tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny bundle, quantised on noise; its record says that eight bits keep everything."""
    directory = tmp_path_factory.mktemp("int8")
    copy_bundle(tiny_bundle, directory)
    encoder = load_bundle(directory, "cpu").sketch
    noise = torch.rand(20, 3, 64, 64, generator=torch.Generator().manual_seed(1)) * 2 - 1
    ranges = find_ranges(exported_backbone(encoder, tmp_path_factory.mktemp("exports")), noise)
    figures = {"mAP": Comparison(fp32=0.5, int8=0.5, mixed=0.5)}
    tensors = {f"{SHARED}/{name}": tensor for name, tensor in ranges.items()}
    set_int8(
        directory,
        tensors,
        lambda sha256: Quantisation(sha256=sha256, cosines={}, figures=figures, queries=9, instance_queries=0),
    )
    return directory


@pytest.fixture(scope="session")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set in folders: 4 classes of 6 sketches and 6 photos."""
    root = tmp_path_factory.mktemp("shapes")
    for shape in SHAPES:
        for modality, filled in (("sketch", False), ("photo", True)):
            folder = root / modality / shape
            folder.mkdir(parents=True)
            for variant in range(6):
                draw_shape(shape, variant, filled=filled).save(folder / f"{shape}-{variant}.png")
    return root


@pytest.fixture
def fifo(tmp_path: Path) -> Iterator[Path]:
    """A FIFO with a picture's name; whoever waits for its writer finds it empty in the end, and the test can fail."""
    path = tmp_path / "fifo.png"
    os.mkfifo(path)

    def release() -> None:
        with suppress(OSError):  # nobody is waiting
            os.close(os.open(path, os.O_WRONLY | os.O_NONBLOCK))

    timer = threading.Timer(20, release)
    timer.start()
    yield path
    timer.cancel()
