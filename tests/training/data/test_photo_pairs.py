"""A pairs table drawn from photos alone."""

import csv
import hashlib
import json

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from training.__main__ import TRAINING
from training.base.command_line import run_command
from training.base.errors import DataError
from training.data import photo_pairs
from training.data.line_drawings import line_drawings
from training.data.pairs import load_data
from training.data.photo_pairs import draw_outlines, draw_pairs
from training.fit.recipe import Recipe
from training.model.bundle import load_bundle
from training.model.images import open_image
from training.model.starter import STARTER_MODEL


def test_every_usable_photo_gets_its_drawings_once(shapes, tmp_path):
    (tmp_path / "photos").symlink_to(shapes / "photo")
    table = draw_pairs(tmp_path / "photos", tmp_path / "out")
    data = load_data(table)
    assert len(data.photos) == len(data.classes) == 24
    assert all(open_image(sketch).size == (256, 256) for sketch in data.sketches)
    assert len(data.groups) == 48
    before = {file: file.stat().st_mtime_ns for file in data.sketches}
    assert draw_pairs(tmp_path / "photos", tmp_path / "out") == table
    assert {file: file.stat().st_mtime_ns for file in data.sketches} == before


def test_a_drawing_that_was_cut_short_is_drawn_again(shapes, tmp_path):
    draw_pairs(shapes / "photo", tmp_path)
    contents = {file: file.read_bytes() for file in (tmp_path / "drawings").rglob("*.png")}
    cut, empty, gone, *_ = sorted(contents)
    cut.write_bytes(contents[cut][:-20])
    empty.write_bytes(b"")
    gone.unlink()
    draw_pairs(shapes / "photo", tmp_path)
    assert {file: file.read_bytes() for file in (tmp_path / "drawings").rglob("*.png")} == contents


def test_a_drawing_is_stored_as_it_was_drawn(shapes, tmp_path):
    photo = sorted((shapes / "photo").rglob("*.png"))[0]
    drawn, _ = draw_outlines([photo], tmp_path, 2)
    random = np.random.default_rng(list(hashlib.sha256(photo.read_bytes()).digest()))
    for file, drawing in zip(drawn[photo], line_drawings(open_image(photo), random, 2), strict=True):
        stored = open_image(file)
        assert stored.mode == "RGB"
        np.testing.assert_array_equal(np.asarray(stored), np.repeat(drawing[..., None], 3, axis=2))


def test_bad_photos_are_listed_and_left_out(shapes, tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    for name in ("circle/circle-1.png", "line/line-2.png"):
        (folder / name.replace("/", "-")).write_bytes((shapes / "photo" / name).read_bytes())
    (folder / "text.jpg").write_text("no picture")
    with draw_pairs(folder, tmp_path / "out", drawings=1).open() as table:
        assert len(list(csv.DictReader(table))) == 2
    [reject] = [json.loads(line) for line in (tmp_path / "out" / "rejects.jsonl").read_text().splitlines()]
    assert reject["file"] == str(folder / "text.jpg")


def test_whatever_a_photo_raises_is_its_reason(shapes, tmp_path, monkeypatch):
    def fail(photo, *args):
        raise RuntimeError("odd")

    monkeypatch.setattr(photo_pairs, "line_drawings", fail)
    with pytest.raises(DataError, match="0 usable photos"):
        draw_pairs(shapes / "photo", tmp_path / "out")
    rows = [json.loads(line) for line in (tmp_path / "out" / "rejects.jsonl").read_text().splitlines()]
    assert [row["reason"] for row in rows] == ["odd"] * 24


def test_too_few_photos(tmp_path):
    with pytest.raises(DataError, match="0 usable photos"):
        draw_pairs(tmp_path, tmp_path / "out")
    with pytest.raises(DataError, match="is not a folder"):
        draw_pairs(tmp_path / "nowhere", tmp_path / "out")


def test_adapting_the_shipped_model_to_photos(shapes, tmp_path, capsys):
    arguments = ["fit", "--photos", shapes / "photo", "--out", tmp_path / "run", "--cache", tmp_path / "cache"]
    options = ["--device", "cpu", "--dim", "8"]
    assert run_command(TRAINING, [str(argument) for argument in [*arguments, *options]]) == 0
    assert "8 dimensions" in capsys.readouterr().out
    shipped, adapted = load_bundle(STARTER_MODEL, "cpu").encoders, load_bundle(tmp_path / "run", "cpu").encoders
    assert adapted.sketch.preprocessing == shipped.sketch.preprocessing
    torch.testing.assert_close(adapted.sketch.head.mean, shipped.sketch.head.mean)
    assert not torch.allclose(adapted.photo.head.mean, shipped.photo.head.mean)
    for name, weights in shipped.photo.backbone.state_dict().items():
        torch.testing.assert_close(adapted.photo.backbone.state_dict()[name], weights)
    other_size = [*arguments[:3], *options, "--image-size", "32", "--out", tmp_path / "other"]
    assert run_command(TRAINING, [str(argument) for argument in other_size]) == 1
    assert "--image-size" in capsys.readouterr().err


def test_heads_can_be_trained_on_photos_alone(shapes, tmp_path):
    options = ["--tune", "heads", "--epochs", "1", "--dim", "8", "--device", "cpu", "--cache", tmp_path / "cache"]
    arguments = ["fit", "--photos", shapes / "photo", "--out", tmp_path / "run", *options]
    assert run_command(TRAINING, [str(argument) for argument in arguments]) == 0


def test_photos_or_data_but_not_both_or_neither(tmp_path, capsys):
    assert run_command(TRAINING, ["fit", "--out", str(tmp_path / "none")]) == 2
    assert "give either --data or --photos" in capsys.readouterr().err


@pytest.mark.parametrize("choices", [{"sketch_mean": "start"}, {"start_heads": 0.5}])
def test_keeping_something_needs_a_model_to_keep_it_from(choices):
    with pytest.raises(ValidationError, match="needs a model to --start from"):
        Recipe(tune="none", **choices)


def test_drawings_lie_in_folders_by_the_beginning_of_their_names(shapes, tmp_path):
    """A single folder would hold millions of files where there are millions of photos."""
    photos = sorted((shapes / "photo").rglob("*.png"))[:12]
    drawn, _ = draw_outlines(photos, tmp_path / "drawings", 2)
    files = [file for outlines in drawn.values() for file in outlines]
    assert len(set(files)) == 24
    assert not [entry for entry in (tmp_path / "drawings").iterdir() if entry.is_file()]
    digests = {hashlib.sha256(photo.read_bytes()).hexdigest()[:24] for photo in photos}
    assert {file.parent.name + file.stem.rpartition("-")[0] for file in files} == digests
