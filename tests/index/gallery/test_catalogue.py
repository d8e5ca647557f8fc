import hashlib
import sqlite3
from contextlib import closing

import numpy as np
import pytest

from index.errors import GalleryDamaged, GalleryError
from index.gallery.catalogue import Catalogue
from index.gallery.photos import NewPhoto, PhotoState, content_key

DIM = 4


def sha256_of(content):
    return hashlib.sha256(str(content).encode()).hexdigest()


def new(uri, content=None, *, label=None, metadata=None, vector=None):
    content = uri if content is None else content
    vector = np.full(DIM, len(uri), np.float32) if vector is None else np.array(vector, np.float32)
    return NewPhoto(uri, sha256_of(content), 10, 20, 30, 40, label, metadata or {}, vector)


@pytest.fixture
def catalogue(tmp_path):
    with closing(Catalogue(tmp_path / "catalogue.sqlite", create=True)) as catalogue:
        yield catalogue


def test_facts_of_a_photo_come_back_as_they_were(catalogue):
    metadata = {"año": [1, None, {"x": "\u2028"}], "quote": '"; DROP TABLE photos; --'}
    catalogue.add([new("/fotos/señor 'x'.jpg", label="Ärger", metadata=metadata, vector=[1, -0.5, 3e-9, 0])])
    photo = catalogue.photo(1)
    assert photo[1:7] == ("/fotos/señor 'x'.jpg", sha256_of("/fotos/señor 'x'.jpg"), 10, 30, 40, "Ärger")
    assert photo.metadata == metadata
    assert catalogue.vectors(DIM)[1].tolist() == [np.array([1, -0.5, 3e-9, 0], np.float32).tolist()]
    assert catalogue.photo(2) is None
    assert catalogue.photos([2, 1, 1]) == {1: photo}


def test_a_known_uri_is_replaced_under_its_id_and_no_id_is_given_twice(catalogue):
    catalogue.add([new("a"), new("b"), new("c")])
    catalogue.add([new("b", "other", label="new"), new("d")])
    last = catalogue.uris()["d"]
    assert catalogue.uris() == {"a": 1, "b": 2, "c": 3, "d": last}
    assert (catalogue.photo(2).sha256, catalogue.photo(2).label) == (sha256_of("other"), "new")
    assert catalogue.remove([last]) == 1
    catalogue.add([new("d")])
    assert catalogue.uris()["d"] > last > 3


def test_a_batch_is_added_whole_or_not_at_all(catalogue):
    catalogue.add([new("a")])
    with pytest.raises(GalleryError, match="NOT NULL"):
        catalogue.add([new("b"), new("c")._replace(sha256=None)])
    assert (catalogue.uris(), catalogue.revision) == ({"a": 1}, 1)


def test_what_is_removed_is_counted(catalogue):
    catalogue.add([new(str(number)) for number in range(10)])
    assert catalogue.remove([1, 2, 2, 77]) == 2
    assert catalogue.remove([1, 2]) == 0
    assert catalogue.remove([]) == 0
    assert catalogue.count() == 8


def test_whether_there_are_other_photos(catalogue):
    assert not catalogue.has_others([])
    catalogue.add([new(str(number)) for number in range(3000)])
    everything = list(range(1, 3001))
    assert catalogue.has_others([])
    assert catalogue.has_others([1])
    assert catalogue.has_others(everything[:-1])
    assert not catalogue.has_others([*everything, 9999])
    catalogue.remove(everything[1:])
    assert not catalogue.has_others([1])
    assert catalogue.has_others([2])


def test_revisions_say_what_changed_since(catalogue):
    catalogue.add([new("a"), new("b"), new("c")])
    first = catalogue.revision
    catalogue.add([new("b", "other")])
    catalogue.remove([1])
    catalogue.describe({3: ("label", {"x": 1})})  # no generation holds it
    assert catalogue.revision == first + 2
    assert catalogue.changed_after(first - 1).tolist() == [2, 3]
    assert catalogue.changed_after(first).tolist() == [2]
    assert [block.ids.tolist() for block in catalogue.blocks(DIM, changed_after=first)] == [[2]]
    assert list(catalogue.blocks(DIM, changed_after=first + 1)) == []


def test_removals_are_known_since_the_first_photo(catalogue):
    catalogue.add([new(name) for name in "abcd"])
    first = catalogue.revision
    catalogue.remove([3, 1, 99])
    catalogue.remove([4])
    assert catalogue.removed_since == 0
    assert catalogue.removed_after(0).tolist() == catalogue.removed_after(first).tolist() == [1, 3, 4]
    assert catalogue.removed_after(first + 1).tolist() == [4]
    assert catalogue.removed_after(first + 2).tolist() == []
    assert catalogue.changed_after(0).tolist() == [2]
    assert catalogue.changed_after(first).tolist() == []
    catalogue.forget_removed(first + 1)
    assert (catalogue.removed_since, catalogue.removed_after(first + 1).tolist()) == (first + 1, [4])
    catalogue.forget_removed(first)
    assert catalogue.removed_since == first + 1


def test_changes_are_looked_up_without_reading_every_photo(catalogue, plans):
    catalogue.add([new(str(number)) for number in range(300)])
    catalogue.remove([7])
    with closing(Catalogue(catalogue.path)) as reader:
        plans.clear()
        assert reader.changed_after(2).tolist() == []
        assert reader.removed_after(1).tolist() == [7]
        assert list(reader.blocks(DIM, changed_after=2)) == []
        assert plans
        assert not any(plan.startswith("SCAN") and "json_each" not in plan for plan in plans)
        assert reader.count() == 299
        assert plans[-1].startswith("SCAN")  # so a plan that reads every photo is seen


def test_descriptions_of_no_photo_change_nothing(catalogue):
    catalogue.add([new("a", label="x")])
    catalogue.describe({7: ("y", {})})
    assert catalogue.photo(1).label == "x"


def test_states_and_ids_of_more_uris_than_a_statement_takes(catalogue):
    names = [f"photo {number}" for number in range(1800)]
    catalogue.add([new(name) for name in names])
    asked = ["nowhere", *names[::2], "'"]
    assert catalogue.ids(asked) == {name: number for number, name in enumerate(names, start=1) if number % 2}
    states = catalogue.states(asked)
    assert states.keys() == set(names[::2])
    assert states["photo 4"] == PhotoState(sha256_of("photo 4"), 10, 20)
    assert len(catalogue.photos(list(range(1, 1801)))) == 1800


def test_pages(catalogue):
    catalogue.add([new(str(number)) for number in range(7)])
    catalogue.remove([3])
    assert [photo.id for photo in catalogue.page(0, 3)] == [1, 2, 4]
    assert [photo.id for photo in catalogue.page(4, 9)] == [5, 6, 7]
    assert catalogue.page(7, 1) == []


def test_what_is_known_of_content(catalogue):
    catalogue.add([new("a", "same", vector=[1, 2, 3, 4]), new("b", "other")])
    known = catalogue.same_content(sha256_of("same"))
    assert (known.width, known.height, known.vector.tolist()) == (30, 40, [1, 2, 3, 4])
    assert catalogue.same_content(sha256_of("nothing")) is None


def test_blocks_are_by_id_and_the_same_bytes_have_the_same_key(catalogue):
    catalogue.add([new(str(number), number % 3) for number in range(9000)])
    blocks = list(catalogue.blocks(DIM))
    assert len(blocks) > 1
    ids, contents = (np.concatenate([getattr(block, name) for block in blocks]) for name in ("ids", "contents"))
    assert ids.tolist() == list(range(1, 9001))
    assert contents.tolist() == [content_key(sha256_of(number % 3)) for number in range(9000)]
    assert len(set(contents.tolist())) == 3


def test_keys_are_positive_whatever_the_digest():
    assert content_key("f" * 64) == 2**60 - 1
    assert content_key("0" * 63 + "1") == 0


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ("UPDATE vectors SET vectors = substr(vectors, 2)", "without 4 dimensions"),
        ("UPDATE vectors SET vectors = x''", "without 4 dimensions"),
        ("UPDATE vectors SET slots = slots & ~8, vectors = substr(vectors, 17)", "a photo without a vector"),
        ("DELETE FROM vectors", "a photo without a vector"),
        (f"UPDATE vectors SET vectors = x'{np.float32([*range(19), np.nan]).tobytes().hex()}'", "not finite"),
        (f"UPDATE vectors SET vectors = x'{np.float32([*range(19), np.inf]).tobytes().hex()}'", "not finite"),
    ],
)
def test_damaged_vectors_are_named(catalogue, damage, message):
    catalogue.add([new(str(number)) for number in range(5)])
    with closing(sqlite3.connect(catalogue.path)) as other, other:
        other.execute(damage)
    with pytest.raises(GalleryDamaged, match=message):
        list(catalogue.blocks(DIM))


def test_facts_are_stored_together_and_replaced(catalogue):
    assert catalogue.fact("kind") is None
    catalogue.set_facts({"kind": "codes", "target": "0.9"})
    catalogue.set_facts({"kind": "disk"})
    catalogue.set_facts({})
    assert (catalogue.fact("kind"), catalogue.fact("target")) == ("disk", "0.9")
    assert catalogue.revision == 0


def test_a_reader_sees_what_a_writer_has_committed(catalogue):
    with closing(Catalogue(catalogue.path)) as reader:
        catalogue.add([new("a")])
        assert (reader.count(), reader.revision) == (1, 1)
        with pytest.raises(GalleryError, match="readonly"):
            reader.add([new("b")])
        blocks = reader.blocks(DIM)
        catalogue.remove([1])
        assert list(blocks) == []  # a state is taken when reading begins
        assert catalogue.problems() == reader.problems() == []


def test_no_two_photos_get_the_same_uri(catalogue):
    catalogue.add([new("a"), new("b"), new("c")])
    catalogue.rename({1: "x", 2: "c", 3: "y"})
    assert catalogue.uris() == {"x": 1, "b": 2, "y": 3}
    assert catalogue.revision == 1


def test_a_frozen_view_stays_as_it_was(catalogue):
    catalogue.add([new(name) for name in "abc"])
    revision = catalogue.revision
    with catalogue.frozen() as frozen:
        catalogue.add([new("d")])
        catalogue.remove([1])
        for _ in range(2):
            assert (frozen.revision, frozen.count()) == (revision, 3)
            assert np.concatenate([block.ids for block in frozen.blocks(DIM)]).tolist() == [1, 2, 3]
            assert frozen.removed_after(0).tolist() == []
    assert (catalogue.revision, catalogue.count()) == (revision + 2, 3)
    with catalogue.frozen() as frozen:
        assert frozen.removed_after(0).tolist() == [1]
