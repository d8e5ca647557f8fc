import json
import shutil
from contextlib import closing

import numpy as np
import pytest
import torch

from index.errors import GalleryDamaged, GalleryError
from index.gallery import generations
from index.gallery.bases import Place, file_facts
from index.gallery.directory import Gallery
from index.gallery.generations import generation_folder, load_generation, read_generation
from index.gallery.searcher import Searcher
from tests.index.conftest import decaying


@pytest.fixture
def path(fill):
    """300 photos in the base; photos 296 to 300 have new vectors, five after them are new, with ids above."""
    fill(decaying(300, 16), contents=[number // 2 for number in range(310)])
    return fill(decaying(10, 16, 1), start=295, contents=[number // 2 for number in range(310)])


def folder_of(path):
    return generation_folder(path, read_generation(path).generation)


def change_manifest(path, **values):
    file = folder_of(path) / "manifest.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | values))


def test_a_generation_holds_the_photos_by_id_with_what_changed_after_its_base(path):
    generation = load_generation(path)
    assert (generation.manifest.base_count, generation.manifest.count) == (300, 305)
    ids, vectors = (np.concatenate(parts) for parts in zip(*generation.blocks(), strict=True))
    new = ids[300:].tolist()
    assert ids.tolist() == [*range(1, 301), *new]
    assert new == sorted(set(new))
    expected = np.concatenate([decaying(300, 16)[:295], decaying(10, 16, 1)])
    np.testing.assert_allclose(vectors, generation.order.photos(expected), rtol=1e-6, atol=1e-7)
    positions = generation.positions
    assert (positions.count, positions.alive.sum(), positions.size) == (305, 305, 310)
    same = positions.of_contents(positions.contents_at(positions.of_ids(np.array(new[:1]))))
    assert positions.ids_at(same).tolist() == new[:2]


def test_blocks_are_bounded(path, monkeypatch):
    monkeypatch.setattr(generations, "_BLOCK", 100)
    assert [len(ids) for ids, _ in load_generation(path).blocks()] == [100, 100, 100, 5]


def test_changes_leave_a_generation_as_it_was(path):
    generation = load_generation(path)
    before = generation.accelerator.search(decaying(1, 16, 4), 20, 16)
    vector = generation.order.photos(decaying(1, 16, 5))
    changed = generation.with_changes(np.array([7, 300, 999]), np.array([999]), np.array([5]), vector)
    assert (changed.positions.count, generation.positions.count) == (304, 305)
    assert changed.manifest is generation.manifest
    ids = np.concatenate([ids for ids, _ in changed.blocks()])
    before_it = np.concatenate([ids for ids, _ in generation.blocks()])
    assert ids.tolist() == [i for i in before_it.tolist() if i not in (7, 300)] + [999]
    for one, other in zip(generation.accelerator.search(decaying(1, 16, 4), 20, 16), before, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("name", ["photos.faiss", "ids.npy", "contents.npy", "order.npz", "changes.npz"])
@pytest.mark.parametrize("damage", ["missing", "empty", "flipped", "longer"])
def test_every_file_is_checked_before_it_is_used(path, name, damage):
    file = folder_of(path) / name
    content = file.read_bytes()
    file.unlink()  # a hard link; the older generation keeps its own
    if damage != "missing":
        middle = len(content) // 2
        flipped = content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]
        file.write_bytes({"empty": b"", "flipped": flipped, "longer": content + b"\0"}[damage])
    with pytest.raises(GalleryDamaged, match=f"{name}.* is missing or corrupted; run .*verify --repair"):
        load_generation(path)


@pytest.mark.parametrize(
    "values", [{"version": 1}, {"format": "other"}, {"surprise": 1}, {"count": "many"}, {"kind": "best"}]
)
def test_manifests_of_other_versions_are_refused(path, values):
    change_manifest(path, **values)
    with pytest.raises(GalleryDamaged, match=r"manifest\.json .* is missing, damaged or of another version"):
        read_generation(path)


@pytest.mark.parametrize("pointer", ["", "000099\n", "../../elsewhere", "/etc", "\0" * 7, b"\xff\xfe"])
def test_a_pointer_to_nowhere(path, pointer):
    (path / "CURRENT").write_bytes(pointer if isinstance(pointer, bytes) else pointer.encode())
    with pytest.raises(GalleryDamaged, match="CURRENT"):
        read_generation(path)


def test_a_pointer_cannot_lead_out_of_the_gallery(path, tmp_path):
    shutil.copytree(folder_of(path), tmp_path / "outside")
    (path / "CURRENT").write_text("../../outside")
    with pytest.raises(GalleryDamaged):
        read_generation(path)


def test_no_gallery_and_none_published(path, tmp_path):
    with pytest.raises(GalleryError, match="is not a gallery"):
        read_generation(tmp_path)
    (path / "CURRENT").unlink()
    with pytest.raises(GalleryDamaged, match="half-written"):
        load_generation(path)


def test_a_generation_that_is_dropped_while_it_is_read_gives_way_to_the_next(path, fill, monkeypatch):
    """The writer switches after the manifest was read, and deletes what it told of."""
    old, load = read_generation(path), generations._load

    def drop_first(folder, manifest, *others):
        if manifest.generation == old.generation:
            for start in (305, 306):
                fill(decaying(1, 16, start), start=start)
            assert not folder.exists()
        return load(folder, manifest, *others)

    monkeypatch.setattr(generations, "_load", drop_first)
    assert load_generation(path).manifest.generation == old.generation + 2


def test_a_base_that_is_open_is_not_read_again(path, fill):
    generation = load_generation(path)
    fill(decaying(1, 16, 7), start=305)
    for file in folder_of(path).iterdir():
        if file.name not in ("manifest.json", "changes.npz"):
            content = file.read_bytes()
            file.unlink()
            file.write_bytes(bytes(len(content)))
    again = load_generation(path, shared=generation.base)
    assert again.base is generation.base
    assert (again.manifest.generation, again.manifest.count) == (3, 306)
    ids = np.concatenate([ids for ids, _ in again.blocks()])
    vectors = np.concatenate([vectors for _, vectors in again.blocks()])
    expected = np.concatenate([decaying(300, 16)[:295], decaying(10, 16, 1), decaying(1, 16, 7)])
    np.testing.assert_allclose(vectors, again.order.photos(expected), rtol=1e-6, atol=1e-7)
    assert len(set(ids.tolist())) == 306
    with pytest.raises(GalleryDamaged, match="is missing or corrupted"):
        load_generation(path)


@pytest.mark.parametrize("name", ["photos.faiss", "ids.npy"])
def test_a_base_that_is_open_does_not_hide_that_its_files_are_gone(path, name):
    generation = load_generation(path)
    (folder_of(path) / name).unlink()
    with pytest.raises(GalleryDamaged, match=f"{name}.* is missing or corrupted"):
        load_generation(path, shared=generation.base)


def test_changes_beside_a_shared_base_are_checked(path):
    generation = load_generation(path)
    changes = folder_of(path) / "changes.npz"
    changes.write_bytes(bytes(changes.stat().st_size))
    with pytest.raises(GalleryDamaged, match=r"changes\.npz is missing or corrupted"):
        load_generation(path, shared=generation.base)


def test_only_the_same_base_in_the_same_place_is_shared(path):
    generation = load_generation(path)
    elsewhere = Place(torch.device("cpu"), half=True)
    assert load_generation(path, elsewhere, generation.base).base is not generation.base
    with closing(Gallery.open(path, write=True)) as gallery:
        gallery.publish()
    assert load_generation(path, shared=generation.base).base is not generation.base


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("half", [False, True])
def test_a_base_on_a_gpu_is_shared_there(path, fill, half):
    before = Searcher.open(path, "cuda", half=half)
    fill(decaying(1, 16, 7), start=305)
    after = Searcher.open(path, "cuda", half=half, previous=before)
    assert after.base is before.base is not None
    queries = decaying(5, 16, 8)
    assert after.search(queries, 20) == Searcher.open(path, "cpu").search(queries, 20)


def test_a_generation_that_is_dropped_after_it_was_checked_gives_way_to_the_next(path, fill, monkeypatch):
    old, check = read_generation(path), generations.check_files

    def drop_then(folder, files, **options):
        check(folder, files, **options)
        monkeypatch.setattr(generations, "check_files", check)
        for start in (305, 306):
            fill(decaying(1, 16, start), start=start)
        assert not folder.exists()

    monkeypatch.setattr(generations, "check_files", drop_then)
    assert load_generation(path).manifest.generation == old.generation + 2


def test_facts_of_a_file(tmp_path):
    (tmp_path / "file").write_bytes(b"abc")
    facts = file_facts(tmp_path / "file")
    assert (facts.bytes, facts.sha256[:8]) == (3, "ba7816bf")
