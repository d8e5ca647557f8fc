import json
import multiprocessing
import shutil
import sqlite3

import numpy as np
import pytest
import torch

from index.errors import GalleryDamaged, GalleryError, GalleryLocked, ModelMismatch
from index.gallery.directory import Gallery
from index.gallery.searcher import Searcher
from index.jobs import remove_photos
from training.model.bundle import load_bundle, save_bundle


@pytest.fixture
def gallery(build, shapes):
    path, _ = build(shapes / "photo")
    return path


def problems(path):
    gallery = Gallery.open(path)
    try:
        return gallery.problems()
    finally:
        gallery.close()


def publish(path):
    gallery = Gallery.open(path, write=True)
    try:
        return gallery.publish()
    finally:
        gallery.close()


def test_a_new_gallery_is_whole(gallery, tiny_bundle):
    assert problems(gallery) == []
    searcher = Searcher.open(gallery, "cpu")
    assert (searcher.count, searcher.dim, searcher.generation) == (24, 16, 1)
    assert searcher.manifest.model == load_bundle(tiny_bundle, "cpu").digest


def test_generations_are_switched_and_old_ones_dropped(gallery):
    reader = Searcher.open(gallery, "cpu")
    for number in (2, 3, 4):
        assert publish(gallery).generation == number
    assert sorted(folder.name for folder in (gallery / "generations").iterdir()) == ["000003", "000004"]
    assert (gallery / "CURRENT").read_text() == "000004\n"
    assert len(reader.search(np.ones((1, 16), np.float32), 5)[0]) == 5


def test_no_gallery(tmp_path):
    with pytest.raises(GalleryError, match="is not a gallery; make one"):
        Searcher.open(tmp_path, "cpu")


def test_a_folder_of_something_else_is_left_alone(tmp_path, tiny_bundle):
    (tmp_path / "holiday.txt").write_text("mine")
    with pytest.raises(GalleryError, match="not empty and not a gallery"):
        Gallery.create(tmp_path, tiny_bundle)
    assert [file.name for file in tmp_path.iterdir()] == ["holiday.txt"]


def test_half_written(gallery):
    (gallery / "CURRENT").unlink()
    with pytest.raises(GalleryDamaged, match="half-written"):
        Searcher.open(gallery, "cpu")
    publish(gallery)
    assert problems(gallery) == []


@pytest.mark.parametrize("name", ["photos.faiss", "ids.npy", "manifest.json"])
@pytest.mark.parametrize("damage", ["missing", "cut", "flipped"])
def test_damaged_generation_files_are_named_and_rebuilt(gallery, name, damage):
    path = gallery / "generations" / "000001" / name
    content = path.read_bytes()
    if damage == "missing":
        path.unlink()
    elif damage == "cut":
        path.write_bytes(content[: len(content) // 2])
    else:
        path.write_bytes(content[:-9] + bytes(byte ^ 0xFF for byte in content[-9:]))
    with pytest.raises(GalleryDamaged, match=name.replace(".", r"\.")):
        Searcher.open(gallery, "cpu")
    assert any(name in problem for problem in problems(gallery))
    publish(gallery)
    assert problems(gallery) == []


def test_damaged_catalogue_is_named(gallery):
    path = gallery / "catalogue.sqlite"
    content = bytearray(path.read_bytes())
    content[:100] = bytes(100)
    path.write_bytes(content)
    with pytest.raises(GalleryDamaged, match=r"catalogue\.sqlite is damaged"):
        Gallery.open(gallery)


def test_missing_catalogue(gallery):
    (gallery / "catalogue.sqlite").unlink()
    with pytest.raises(GalleryError, match="is not a gallery"):
        Gallery.open(gallery)


def test_another_model_is_refused(gallery, tiny_bundle, tmp_path):
    other = load_bundle(tiny_bundle, "cpu")
    with torch.no_grad():
        other.encoders.photo.head.mean += 1
    save_bundle(tmp_path / "other", other.encoders, other.spectrum)
    with pytest.raises(ModelMismatch, match="another model"):
        Gallery.create(gallery, tmp_path / "other")
    assert problems(gallery) == []


def test_a_swapped_model_is_noticed(gallery):
    manifest = json.loads((gallery / "model" / "model.json").read_text())
    manifest["encoders"]["sketch"]["flip"] = True
    (gallery / "model" / "model.json").write_text(json.dumps(manifest))
    assert any("another model" in problem for problem in problems(gallery))


def test_a_catalogue_that_is_ahead_is_noticed(gallery):
    opened = Gallery.open(gallery, write=True)
    opened.catalogue.remove([1])
    opened.close()
    assert any("older than the catalogue" in problem for problem in problems(gallery))
    publish(gallery)
    assert Searcher.open(gallery, "cpu").count == 23


def test_a_vector_of_the_wrong_size_is_noticed(gallery):
    connection = sqlite3.connect(gallery / "catalogue.sqlite")
    connection.execute("UPDATE vectors SET vectors = x'00'")
    connection.commit()
    connection.close()
    assert any("16 dimensions" in problem for problem in problems(gallery))


def hold_lock(path, ready, done):
    gallery = Gallery.open(path, write=True)
    with gallery.writing():
        ready.set()
        done.wait(120)


def test_two_writers_exclude_each_other(gallery):
    context = multiprocessing.get_context("spawn")
    ready, done = context.Event(), context.Event()
    other = context.Process(target=hold_lock, args=(gallery, ready, done))
    other.start()
    assert ready.wait(120)
    mine = Gallery.open(gallery, write=True)
    with pytest.raises(GalleryLocked, match="another process is writing"):
        remove_photos(mine, [1])
    done.set()
    other.join()
    assert remove_photos(mine, [1, 2, 999]) == 2
    mine.close()


def test_removed_photos_are_not_found(gallery):
    opened = Gallery.open(gallery, write=True)
    assert remove_photos(opened, [5, 6]) == 2
    hits = Searcher.open(gallery, "cpu").search(np.ones((1, 16), np.float32), 100)[0]
    assert sorted(hit.id for hit in hits) == sorted(set(range(1, 25)) - {5, 6})
    with pytest.raises(GalleryError, match="leave no photo"):
        remove_photos(opened, list(range(1, 25)))
    opened.close()


def test_a_gallery_can_be_moved(gallery, tmp_path):
    shutil.move(gallery, tmp_path / "elsewhere")
    assert problems(tmp_path / "elsewhere") == []
