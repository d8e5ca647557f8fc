"""What a decoder does with an image, here in the process of the test."""

import io

import numpy as np
import pytest
from PIL import Image

from service.encoding.pictures import Crop, Task, perform
from tests.training.model.test_costs import progressive
from training.model.preprocessing import Preprocessing

SEEN = Preprocessing(size=64)
TASK = Task("arranged", 10**6, 10, preprocessing=SEEN.model_dump_json())


def encoded(image, kind="PNG"):
    buffer = io.BytesIO()
    image.save(buffer, kind)
    return buffer.getvalue()


HALVES = Image.new("RGB", (100, 50), "white")
HALVES.paste("red", (50, 0, 100, 50))


def test_a_task_survives_the_way_to_its_decoder():
    for task in (TASK, TASK._replace(crop=Crop(1, 2, 3, 4), drawing=True)):
        assert Task.from_header({**task.header(), "crop": task.crop and list(task.crop)}) == task


def test_a_part_of_an_image():
    answer, pixels = perform(TASK._replace(crop=Crop(50, 0, 50, 50)), encoded(HALVES))
    assert answer == {"blank": True, "gray": False}
    assert len(pixels) == 64 * 64 * 3
    np.testing.assert_array_equal(np.frombuffer(pixels, np.uint8).reshape(-1, 3), [[255, 0, 0]] * 64**2)


@pytest.mark.parametrize(
    ("content", "changes", "error", "reason"),
    [
        (b"nothing", {}, "image", "not an image"),
        (encoded(HALVES), {"max_pixels": 10}, "pixels", "100 x 50 px is more than the limit of 10 pixels"),
        (progressive(200), {}, "cost", "more than 100 scans"),
        (encoded(HALVES), {"crop": Crop(0, 0, 101, 5)}, "request", "does not lie within the photo"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", {}, "image", "only sketches may be"),
    ],
)
def test_what_is_wrong_is_told(content, changes, error, reason):
    answer, result = perform(TASK._replace(**changes), content)
    assert (answer["error"], reason in answer["reason"], result) == (error, True, b"")


@pytest.mark.parametrize(
    ("raised", "told"),
    [
        (TypeError("odd picture"), ("image", "odd picture")),
        (KeyError(), ("image", "KeyError")),
        (MemoryError(), ("memory", "")),
    ],
)
def test_whatever_is_raised_is_told(raised, told, monkeypatch):
    def fail(*args):
        raise raised

    monkeypatch.setattr(Preprocessing, "arrange", fail)
    answer, _ = perform(TASK, encoded(HALVES))
    assert (answer["error"], answer["reason"]) == told
