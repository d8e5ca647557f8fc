"""A shard that several have open: what one changes or publishes, the others find."""

import shutil
from contextlib import closing

import numpy as np
import pytest

from index.errors import GalleryError
from index.gallery.directory import Gallery
from index.shards.layout import shard_folder
from service.engine.uploads import Upload
from service.errors import RequestProblem
from service.shards.shard import Shard, Wanted

LIVE = 3


@pytest.fixture
def folder(own_shards):
    return shard_folder(own_shards, 0)


@pytest.fixture
def replicas(folder):
    with closing(Shard(folder, "cpu", LIVE)) as one, closing(Shard(folder, "cpu", LIVE)) as other:
        yield one, other


def upload(number):
    vector = np.random.default_rng(number).normal(size=16).astype(np.float32)
    return Upload(b"content", f"{number:064x}", ".png", (8, 8), vector, f"label {number}", {"number": number})


def ids_of(shard, **options):
    [found] = shard.search(np.eye(1, 16, dtype=np.float32), 100, **options).found
    return set(found.ids.tolist())


def test_what_one_replica_changes_the_others_find_at_once(replicas):
    one, other = replicas
    photo, new = one.add(upload(1), 1.0)
    assert new
    assert photo.id in ids_of(one)
    assert photo.id in ids_of(other)
    assert ids_of(other, among=Wanted({"number": 1}, 5.0)) == {photo.id}
    np.testing.assert_allclose(other.vectors([photo.id]), one.vectors([photo.id]))
    other.describe(photo.id, {"label": "new"}, 1.0)
    assert one.photos([photo.id])[photo.id].label == "new"
    other.remove(photo.id, 1.0)
    assert photo.id not in ids_of(one)
    assert one.describe(photo.id, {"label": "gone"}, 1.0) is None
    assert one.remove(photo.id, 1.0) is None


def test_the_facts_of_photos_come_with_the_hits_if_they_are_few(replicas, monkeypatch):
    one, _ = replicas
    long = one.add(upload(1), 1.0)[0].id
    one.describe(long, {"metadata": {"text": "x" * 100}}, 1.0)

    def sent(limit):
        [found], photos = one.search(np.eye(1, 16, dtype=np.float32), limit)
        assert photos == list(one.photos([photo.id for photo in photos]).values())
        return found.ids.tolist(), {photo.id for photo in photos}

    ids, there = sent(100)
    assert there == set(ids)
    monkeypatch.setattr("service.shards.shard._SENT", 3)
    assert sent(100) == (ids, set(ids[:3]))
    monkeypatch.setattr("service.shards.shard._SENT", 100)
    monkeypatch.setattr("service.shards.shard._SENT_METADATA", 100)
    assert sent(100) == (ids, set())


def test_many_changes_are_published_and_taken_over(replicas):
    one, other = replicas
    generation, before = one.facts().manifest.generation, ids_of(one)
    added = {one.add(upload(number), 1.0)[0].id for number in range(LIVE)}
    assert one.facts().changes == LIVE
    one.tend()
    assert (one.facts().changes, one.facts().manifest.generation) == (0, generation + 1)
    other.tend()
    assert other.facts().manifest.generation == generation + 1
    assert ids_of(one) == ids_of(other) == before | added


def test_a_replica_that_is_far_behind_takes_over_a_generation(replicas):
    one, other = replicas
    added = {one.add(upload(number), 1.0)[0].id for number in range(LIVE + 2)}
    assert added <= ids_of(other)


def test_changes_that_a_killed_process_left_unpublished_are_found(folder, replicas):
    added = replicas[0].add(upload(1), 1.0)[0].id
    with closing(Shard(folder, "cpu", LIVE)) as fresh:
        assert added in ids_of(fresh)


def test_a_gallery_in_the_place_of_the_shard_is_noticed(folder, replicas):
    catalogue = folder / "catalogue.sqlite"
    shutil.copyfile(catalogue, folder / "other.sqlite")
    (folder / "other.sqlite").rename(catalogue)
    with pytest.raises(GalleryError, match="was replaced by another gallery"):
        replicas[0].refresh()


def test_an_empty_shard_finds_nothing_and_takes_no_photo(tiny_bundle, tmp_path):
    Gallery.create(tmp_path / "empty", tiny_bundle).close()
    with closing(Shard(tmp_path / "empty", "cpu", LIVE)) as shard:
        assert ids_of(shard) == set()
        assert shard.facts()[:3] == (None, 0, 0)
        with pytest.raises(RequestProblem, match="shard is empty"):
            shard.add(upload(1), 1.0)
