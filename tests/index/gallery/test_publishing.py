import json
import os
import sqlite3
import threading
from contextlib import closing

import numpy as np
import pytest

from index.errors import GalleryDamaged
from index.gallery import publishing
from index.gallery.catalogue import Catalogue
from index.gallery.directory import Gallery, sampled_recall
from index.gallery.generations import load_generation, read_generation
from index.gallery.photos import NewPhoto
from index.gallery.searcher import Searcher
from index.jobs import compact, remove_photos
from tests.index.conftest import decaying
from training.model.neighbours import NEIGHBOURS, STRENGTH, with_neighbours

pytestmark = pytest.mark.long

KINDS = ["exact", "codes", "disk"]


def base_file(path):
    folder = path / "generations" / (path / "CURRENT").read_text().strip()
    return next(folder / name for name in ("photos.faiss", "bounds0.faiss") if (folder / name).exists())


def brute_force(path, queries, dimensions):
    """Ids, best first, from the catalogue and the order alone."""
    with closing(Gallery.open(path)) as gallery:
        ids, vectors = gallery.catalogue.vectors(16)
        assert gallery.problems() == []
    order = load_generation(path).order
    queries, vectors = order.sketches(queries), order.photos(vectors)
    return ids[np.argsort(-(queries[:, :dimensions] @ vectors[:, :dimensions].T), axis=1, kind="stable")]


def assert_exact(path, **options):
    searcher, queries = Searcher.open(path, "cpu"), decaying(7, 16, 99)
    for dimensions in (1, 3, 16):
        expected = brute_force(path, queries, dimensions)
        assert searcher.count == expected.shape[1]
        for row, hits in enumerate(searcher.search(queries, 15, dimensions=dimensions, recall=1, **options)):
            assert [hit.id for hit in hits] == expected[row, :15].tolist()


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_exact_when_asked_and_after_changes(fill, kind):
    path = fill(decaying(3000, 16), kind=kind)
    manifest = read_generation(path)
    assert manifest.kind == kind
    assert {point.dimensions for point in manifest.recall} == {1, 4, 16}
    assert all(point.recall == 1 for point in manifest.recall if point.effort is None)
    assert_exact(path)
    inode = base_file(path).stat().st_ino
    fill(decaying(40, 16, 5), start=2990)  # ten photos with new vectors, thirty new photos
    with closing(Gallery.open(path, write=True)) as gallery:
        remove_photos(gallery, [1, 2, 3, 2995, 3020])
    assert base_file(path).stat().st_ino == inode
    assert_exact(path)
    with closing(Gallery.open(path, write=True)) as gallery:
        assert compact(gallery).kind == kind
    assert base_file(path).stat().st_ino != inode
    assert read_generation(path).base_count == 3025
    assert_exact(path)


def test_coordinates_are_in_the_order_of_the_photos_until_a_new_base(fill):
    vectors = np.zeros((1200, 16), np.float32)
    vectors[:, 9] = np.random.default_rng(0).normal(size=1200)
    path = fill(vectors)
    generation, manifest = load_generation(path), read_generation(path)
    assert np.abs(generation.order.photo_map[0]).argmax() == 9
    np.testing.assert_allclose(generation.order.sketch_map @ generation.order.photo_map.T, np.eye(16), atol=1e-9)
    assert list(manifest.spectrum) == sorted(manifest.spectrum, reverse=True)
    assert manifest.spectrum[0] == pytest.approx(0.1**0.5, rel=0.1)  # by the model, sketches have 0.1 there
    query = np.eye(16, dtype=np.float32)[[9]]
    [whole], [cut] = (Searcher.open(path, "cpu").search(query, 20, dimensions=d) for d in (None, 1))
    assert [hit.id for hit in whole] == [hit.id for hit in cut]
    fill(np.eye(16, dtype=np.float32)[[3]] * 100, start=1200)
    np.testing.assert_array_equal(load_generation(path).order.photo_map, generation.order.photo_map)
    assert_exact(path)
    with closing(Gallery.open(path, write=True)) as gallery:
        compact(gallery)
    assert np.abs(load_generation(path).order.photo_map[0]).argmax() == 3
    assert_exact(path)


@pytest.mark.parametrize("kind", ["codes", "disk"])
def test_a_recall_target_is_met_with_less_than_everything(fill, kind):
    path = fill(decaying(4000, 16), kind=kind, target=0.9)
    searcher, queries = Searcher.open(path, "cpu"), decaying(200, 16, 98)
    assert searcher.manifest.target == 0.9
    expected = brute_force(path, queries, 16)[:, :10]
    found = [[hit.id for hit in hits] for hits in searcher.search(queries, 10)]
    recall = np.mean([len(set(row) & set(truth)) / 10 for row, truth in zip(found, expected.tolist(), strict=True)])
    assert 0.87 < recall < 1
    exactly = [[hit.id for hit in hits] for hits in searcher.search(queries, 10, recall=1)]
    assert exactly == expected.tolist()


def test_many_changes_make_a_new_base(fill):
    path = fill(decaying(1500, 16))
    inode = base_file(path).stat().st_ino
    fill(decaying(900, 16, 1), start=1500)
    assert base_file(path).stat().st_ino == inode
    fill(decaying(200, 16, 2), start=2400)
    assert base_file(path).stat().st_ino != inode
    assert read_generation(path).base_count == 2600
    assert_exact(path)


def test_another_kind_or_target_is_published_without_new_photos(fill):
    path = fill(decaying(500, 16))
    fill([], kind="codes")
    assert read_generation(path).kind == "codes"
    fill([], target=0.9)
    assert (read_generation(path).generation, read_generation(path).target) == (3, 0.9)
    with closing(Gallery.open(path, write=True)) as gallery:
        assert gallery.publish_changes().generation == 3


@pytest.mark.parametrize("kind", ["ivf", "fp16", "sq8", "hnsw"])
def test_a_kind_that_is_gone_is_replaced_by_a_choice_with_one_warning(fill, caplog, kind):
    path = fill(decaying(300, 16))
    with closing(Gallery.open(path, write=True)) as gallery:
        gallery.catalogue.set_facts({"kind": kind})
        gallery.publish()
        assert caplog.messages == [
            f"this gallery asks for the kind of index {kind}, which is gone; svdraw chooses one instead"
        ]
        gallery.publish()
        assert len(caplog.messages) == 1
    assert read_generation(path).kind == "exact"
    assert_exact(path)


def test_the_manifest_says_why_a_kind_was_chosen(fill):
    assert "fewer than" in read_generation(fill(decaying(300, 16))).reason
    assert read_generation(fill([], kind="codes")).reason == "it was asked for"


def test_damage_to_changes_is_named_and_repaired(fill):
    path = fill(decaying(300, 16))
    fill(decaying(5, 16, 1), start=300)
    changes = base_file(path).with_name("changes.npz")
    content = changes.read_bytes()
    changes.write_bytes(content[:-20] + bytes(20))
    with pytest.raises(GalleryDamaged, match=r"changes\.npz is missing or corrupted"):
        load_generation(path)
    with closing(Gallery.open(path, write=True)) as gallery:
        assert "changes.npz" in gallery.problems()[0]
        gallery.publish()
    assert_exact(path)


def test_a_generation_of_an_earlier_version_is_named_and_rebuilt(fill):
    path = fill(decaying(300, 16))
    manifest = base_file(path).with_name("manifest.json")
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"version": 1}))
    with pytest.raises(GalleryDamaged, match="of another version; run `svdraw index verify --repair`"):
        read_generation(path)
    fill([])
    assert_exact(path)


def test_low_recall_is_noticed(fill):
    path = fill(decaying(3000, 16), kind="codes", target=0.99)
    file = base_file(path).with_name("manifest.json")
    manifest = json.loads(file.read_text())
    manifest["recall"] = [{"dimensions": 16, "effort": 1, "recall": 0.999}]
    file.write_text(json.dumps(manifest))
    with closing(Gallery.open(path)) as gallery:
        [problem] = gallery.problems()
    assert "recall is 0." in problem
    assert "below the target of 0.99" in problem


def test_a_check_gives_the_same_answer_every_time(fill):
    """Also of a gallery whose recall is about the target, where another sample may say something else."""
    path = fill(decaying(3000, 16), kind="codes", target=0.9)
    generation = load_generation(path)
    found = {sampled_recall(generation) for _ in range(3)}
    assert len(found) == 1
    with closing(Gallery.open(path)) as gallery:
        assert gallery.problems() == []


def test_readers_of_an_old_generation_are_left_alone_by_later_ones(fill):
    path = fill(decaying(2000, 16), kind="disk")
    reader, query = Searcher.open(path, "cpu"), decaying(1, 16, 3)
    before = reader.search(query, 20)
    for start in (2000, 2001, 2002, 2003):
        fill(decaying(1, 16, start), start=start)
    assert reader.search(query, 20) == before
    assert sorted(folder.name for folder in (path / "generations").iterdir()) == ["000004", "000005"]


def photo(number, vector):
    return NewPhoto(f"/later/{number}.png", f"{number:064x}", 1, 1, 8, 8, None, {}, vector)


@pytest.mark.parametrize("kind", KINDS)
def test_photos_come_and_go_while_a_base_is_built(fill, kind, monkeypatch):
    path = fill(decaying(300, 16), kind=kind)
    build, old = publishing.build_kind, base_file(path).stat().st_ino

    def meanwhile(*arguments):
        with closing(Gallery.open(path, write=True)) as other, other.writing():
            other.catalogue.add([photo(number, vector) for number, vector in enumerate(decaying(5, 16, 8))])
            other.catalogue.remove([1, 2, 302])
            assert other.publish_layer().count == 302
            assert base_file(path).stat().st_ino == old
            other.catalogue.add([photo(9, decaying(1, 16, 9)[0])])
            other.catalogue.remove([3])
        return build(*arguments)

    monkeypatch.setattr(publishing, "build_kind", meanwhile)
    with closing(Gallery.open(path, write=True)) as gallery:
        manifest = gallery.publish()
        assert (manifest.generation, manifest.base_count, manifest.count) == (3, 300, 302)
        assert manifest.revision == gallery.catalogue.revision > manifest.base_revision
        assert gallery.problems() == []
        assert gallery.publish_changes() == manifest
    assert_exact(path)


def test_only_one_of_two_builds_the_base(fill, monkeypatch):
    path = fill(decaying(300, 16))
    build, built, go_on = publishing.build_kind, [], threading.Event()

    def slowly(*arguments):
        built.append(arguments[0])
        assert go_on.wait(60)
        return build(*arguments)

    def publish():
        with closing(Gallery.open(path, write=True)) as gallery:
            published.append(gallery.publish_changes().generation)

    monkeypatch.setattr(publishing, "build_kind", slowly)
    with closing(Gallery.open(path, write=True)) as gallery:
        gallery.configure("codes", None)
    published = []
    threads = [threading.Thread(target=publish) for _ in range(2)]
    for thread in threads:
        thread.start()
    go_on.set()
    for thread in threads:
        thread.join()
    assert (built, published) == (["codes"], [2, 2])
    assert_exact(path)


def test_a_layer_costs_nothing_in_the_number_of_photos(fill, monkeypatch):
    """It neither counts nor lists all photos, and waits for the disk only for what is new."""
    path, synced = fill(decaying(300, 16)), []
    sync = os.fsync
    monkeypatch.setattr(os, "fsync", lambda handle: (synced.append(os.fstat(handle)), sync(handle))[1])
    for name in ("count", "uris"):
        monkeypatch.setattr(Catalogue, name, None)
    fill(decaying(3, 16, 5), start=299)
    monkeypatch.undo()
    shared = {file.stat().st_ino for file in base_file(path).parent.iterdir() if file.stat().st_nlink > 1}
    assert len(shared) == 5
    assert shared.isdisjoint(facts.st_ino for facts in synced)
    assert any(facts.st_ino == base_file(path).with_name("changes.npz").stat().st_ino for facts in synced)
    assert_exact(path)


def test_a_disk_without_hard_links(fill, monkeypatch):
    def refuse(*arguments):
        raise OSError("no links here")

    path = fill(decaying(300, 16))
    monkeypatch.setattr(os, "link", refuse)
    before = Searcher.open(path, "cpu")
    fill(decaying(3, 16, 5), start=300)
    assert base_file(path).stat().st_nlink == 1
    assert Searcher.open(path, "cpu", previous=before).base is before.base
    assert_exact(path)


def test_a_layer_holds_more_while_a_base_is_awaited_but_not_everything(fill):
    path = fill(decaying(300, 16))
    with closing(Gallery.open(path, write=True)) as gallery:
        assert not gallery.base_is_due()
        for number, (first, last) in enumerate([(0, 1001), (1001, 4001)]):
            photos = [photo(first + i, vector) for i, vector in enumerate(decaying(last - first, 16, number))]
            gallery.catalogue.add(photos)
            assert gallery.base_is_due()
            layer = gallery.publish_layer()
            assert (layer and layer.count) == (1301 if number == 0 else None)
        assert gallery.publish_changes().base_count == 4301
        assert not gallery.base_is_due()
    assert_exact(path)


@pytest.mark.parametrize("name", ["photos.faiss", "order.npz", "manifest.json"])
def test_a_damaged_base_takes_no_layer(fill, name):
    path = fill(decaying(300, 16))
    file = base_file(path).with_name(name)
    file.write_bytes(file.read_bytes()[:-9])
    with closing(Gallery.open(path, write=True)) as gallery:
        gallery.catalogue.remove([1])
        assert gallery.base_is_due()
        assert gallery.publish_layer() is None
        assert gallery.publish_changes().base_count == 299
    assert_exact(path)


def test_removals_are_recorded_until_a_base_holds_them(fill):
    path = fill(decaying(300, 16))
    with closing(Gallery.open(path, write=True)) as gallery:
        remove_photos(gallery, [1, 2])
        base = read_generation(path).base_revision
        assert gallery.catalogue.removed_after(base).tolist() == [1, 2]
        revision = gallery.publish().base_revision
        assert (gallery.catalogue.removed_since, gallery.catalogue.removed_after(0).tolist()) == (revision, [])
        gallery.catalogue.remove([3])
        gallery.catalogue.forget_removed(gallery.catalogue.revision)  # as if the catalogue were of an earlier version
        assert gallery.base_is_due()
        assert gallery.publish_layer() is None
        assert gallery.publish_changes().count == 297
    assert_exact(path)


def test_a_generation_that_is_cleared_while_it_is_looked_at_gives_way_to_the_next(fill, monkeypatch):
    path, whole = fill(decaying(300, 16)), publishing.has_sizes

    def switched_before(folder, files):
        monkeypatch.setattr(publishing, "has_sizes", whole)
        for start in (300, 301):
            fill(decaying(1, 16, start), start=start)
        assert not folder.exists()
        return whole(folder, files)

    with closing(Gallery.open(path, write=True)) as gallery:
        monkeypatch.setattr(publishing, "has_sizes", switched_before)
        assert not gallery.base_is_due()
    assert read_generation(path).generation == 3


def served(path):
    generation = load_generation(path)
    return generation, generation.accelerator.gather(generation.positions.in_order())


def of_kinds(count):
    """Vectors whose neighbours agree, so that they are taken in."""
    random = np.random.default_rng(0)
    own = random.normal(size=(20, 16))[np.arange(count) % 20]
    return (own + 0.5 * random.normal(size=(count, 16))).astype(np.float32)


@pytest.mark.parametrize("kind", ["exact", "codes"])
def test_photos_of_a_base_take_in_their_neighbours(fill, kind):
    vectors = of_kinds(300)
    path = fill(vectors, neighbours=None, kind=kind)
    generation, actual = served(path)
    assert generation.manifest.neighbours == NEIGHBOURS
    assert generation.manifest.neighbour_strength == STRENGTH
    mixed = with_neighbours(vectors)
    assert np.abs(mixed - vectors).max() > 0.1
    np.testing.assert_allclose(actual, generation.order.photos(mixed), atol=1e-5)
    np.testing.assert_allclose(generation.order.mean, mixed.mean(axis=0), atol=1e-5)
    with closing(Gallery.open(path)) as gallery:
        assert gallery.problems() == []


def test_photos_that_show_things_of_their_own_take_in_none(fill):
    ring = np.linspace(0, 2 * np.pi, 300, endpoint=False)
    vectors = np.stack([f(n * ring) for n in range(1, 9) for f in (np.sin, np.cos)], axis=1).astype(np.float32)
    path = fill(vectors, neighbours=None)
    generation, actual = served(path)
    assert (generation.manifest.neighbours, generation.manifest.neighbour_strength) == (NEIGHBOURS, 0)
    np.testing.assert_allclose(actual, generation.order.photos(vectors), atol=1e-5)
    with closing(Gallery.open(path)) as gallery:
        assert not gallery.base_is_due()
        assert gallery.problems() == []


def test_photos_added_later_take_in_theirs_with_the_next_base(fill):
    vectors = of_kinds(305)
    path = fill(vectors[:300], neighbours=None)
    fill(vectors[300:], start=300, neighbours=None)
    generation, actual = served(path)
    np.testing.assert_allclose(actual[300:], generation.order.photos(vectors[300:]), atol=1e-5)
    with closing(Gallery.open(path, write=True)) as gallery:
        assert gallery.problems() == []
        gallery.publish()
    generation, actual = served(path)
    np.testing.assert_allclose(actual, generation.order.photos(with_neighbours(vectors)), atol=1e-5)


def test_another_number_of_neighbours_makes_a_new_base(fill):
    path = fill(decaying(300, 16))
    assert read_generation(path).neighbours == 0
    fill([], neighbours=3)
    assert read_generation(path).neighbours == 3
    fill([], neighbours=None)  # the gallery keeps the choice
    assert read_generation(path).neighbours == 3


def test_too_many_photos_for_the_memory_take_in_none(fill, monkeypatch):
    monkeypatch.setattr("index.gallery.publishing.memory_limit", lambda: 300 * 16 * 4)
    assert read_generation(fill(decaying(300, 16), neighbours=None)).neighbours == 0


def test_vectors_that_were_changed_behind_the_gallery_are_noticed(fill):
    path = fill(decaying(300, 16), neighbours=None)
    with closing(Gallery.open(path, write=True)) as gallery:
        with closing(sqlite3.connect(path / "catalogue.sqlite")) as connection, connection:
            [(page, content)] = connection.execute("SELECT rowid, vectors FROM vectors LIMIT 1").fetchall()
            damaged = content[:-4] + np.float32(0.123).tobytes()
            connection.execute("UPDATE vectors SET vectors = ? WHERE rowid = ?", (damaged, page))
        assert gallery.problems() == [f"{path}: the published generation differs from the catalogue"]


def test_a_generation_of_an_earlier_version_is_compared_by_its_vectors(fill):
    path = fill(decaying(300, 16))
    folder = base_file(path).parent
    manifest = json.loads((folder / "manifest.json").read_text())
    del manifest["files"]["fingerprints.npy"], manifest["neighbours"]
    (folder / "manifest.json").write_text(json.dumps(manifest))
    (folder / "fingerprints.npy").unlink()
    with closing(Gallery.open(path)) as gallery:
        assert gallery.problems() == []
