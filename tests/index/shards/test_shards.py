"""Shards answer as one gallery with the same photos does, to the bit, whatever is asked."""

import hashlib
import json
import shutil
from contextlib import closing
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from index.__main__ import INDEX
from index.errors import (
    DimensionsError,
    FilterError,
    GalleryDamaged,
    GalleryError,
    ModelMismatch,
    PageError,
    PartsError,
)
from index.gallery.directory import Gallery
from index.gallery.expansion import expanded
from index.gallery.photos import NewPhoto
from index.gallery.publishing import SHARED_ORDER
from index.gallery.searcher import Hit, Searcher
from index.gallery.snapshots import restore, snapshot
from index.parts.embedding import facts_of_model, write_rows
from index.parts.folder import PartsFolder
from index.parts.rows import Rejected, Rows
from index.shards.building import build_shards
from index.shards.layout import MANIFEST, global_ids, local_ids, shard_folder, shard_of
from index.shards.searching import Shards, merge
from tests.conftest import draw_shape
from training.base.command_line import run_command
from training.model.bundle import copy_bundle
from training.model.manifest import read_manifest, write_manifest

COUNT, SHARDS = 300, 4


def photo(number, vector):
    """Every fifth photo has the file of another one; the vectors of every third tie with other photos'."""
    sha256 = hashlib.sha256(str((number % 5 and number) or number // 10).encode()).hexdigest()
    facts = {"year": 1900 + number % 20}
    return NewPhoto(f"/photos/{number}.png", sha256, 1, 1, 8, 8, f"class {number % 7}", facts, vector)


def vectors_of(count, seed=0):
    random = np.random.default_rng(seed)
    vectors = (random.normal(size=(count, 16)) / np.sqrt(np.arange(1, 17))).astype(np.float32)
    vectors[::3] = vectors[0:12:3][random.integers(len(vectors[0:12:3]), size=len(vectors[::3]))]
    return vectors


def write_parts(folder, model, photos, rejected=()):
    facts = facts_of_model(model)
    for start in range(0, len(photos), 64):
        write_rows(PartsFolder(str(folder)), facts, Rows(photos[start : start + 64], []))
    if rejected:
        write_rows(PartsFolder(str(folder)), facts, Rows([], list(rejected)))


def photos_of(count=COUNT, seed=0):
    photos = [photo(number, vector) for number, vector in enumerate(vectors_of(count, seed))]
    by_content = {}
    return [one._replace(vector=by_content.setdefault(one.sha256, one.vector)) for one in photos]


@pytest.fixture(scope="module")
def built(tiny_bundle, tmp_path_factory):
    """Shards, and a single gallery with the same photos in the order of their ids and with the same order."""
    root = tmp_path_factory.mktemp("shards")
    write_parts(root / "parts", tiny_bundle, photos_of(), [Rejected("/photos/broken.png", "not an image")])
    report = build_shards(root / "shards", tiny_bundle, str(root / "parts"), SHARDS, filterable=["label"])
    assert (report.taken, report.unchanged, report.rejected) == (COUNT, 0, 1)
    with closing(Shards.open(root / "shards", "cpu")) as shards:
        ids = shards.select({})
        uris = [shards.photos([identifier])[identifier].uri for identifier in ids.tolist()]
    by_uri = {one.uri: one for one in photos_of()}
    with closing(Gallery.create(root / "single", tiny_bundle)) as gallery:
        shutil.copyfile(root / "shards" / SHARED_ORDER, root / "single" / SHARED_ORDER)
        gallery.configure(None, None, neighbours=0)
        with gallery.writing():
            gallery.catalogue.add([by_uri[uri] for uri in uris])
        gallery.publish()
    return root, ids


@pytest.fixture(scope="module")
def both(built):
    """The shards, the single gallery's catalogue and searcher, and the ids among all shards by those of the single."""
    root, ids = built
    with closing(Shards.open(root / "shards", "cpu")) as shards, closing(Gallery.open(root / "single")) as gallery:
        yield shards, gallery.catalogue, Searcher.open(root / "single", "cpu"), np.concatenate([[-1], ids])


def test_every_photo_is_in_the_shard_of_its_content(built):
    root, _ = built
    contents = []
    for shard in range(SHARDS):
        with closing(Gallery.open(shard_folder(root / "shards", shard))) as gallery:
            assert gallery.problems() == []
            found = gallery.catalogue.photos(list(gallery.catalogue.uris().values())).values()
            assert {shard_of(one.sha256, SHARDS) for one in found} == {shard}
            contents.append(len(found))
    assert sum(contents) == COUNT
    assert min(contents) > COUNT / SHARDS / 2


OPTIONS = st.fixed_dictionaries(
    {
        "dimensions": st.integers(1, 16),
        "limit": st.integers(1, COUNT + 10),
        "offset": st.integers(0, COUNT),
        "unique": st.booleans(),
    }
)


@pytest.mark.parametrize("dimensions", [1, 5, 16])
def test_an_expanded_query_is_that_of_a_single_gallery(both, dimensions):
    shards, _, single, _ = both
    for query in np.random.default_rng(3).normal(size=(4, 16)).astype(np.float32):
        expected = expanded(single, query, 0.5, dimensions=dimensions)
        np.testing.assert_allclose(expanded(shards, query, 0.5, dimensions=dimensions), expected, rtol=1e-5, atol=1e-6)
        assert not np.allclose(expected, query, rtol=1e-2)


@given(options=OPTIONS, seed=st.integers(0, 2**16), data=st.data())
@settings(max_examples=60)
def test_results_are_those_of_a_single_gallery(both, options, seed, data):
    shards, catalogue, single, ids = both
    random = np.random.default_rng(seed)
    queries = np.concatenate([random.normal(size=(2, 16)), vectors_of(COUNT)[[seed % COUNT]]]).astype(np.float32)
    wanted = data.draw(st.sampled_from([None, {"label": "class 3"}, {"year": {"gte": 1915}}, {"label": "none"}]))
    without = sorted(data.draw(st.sets(st.integers(1, COUNT), max_size=5)))
    everything = single.search(queries[:1], COUNT, dimensions=options["dimensions"])[0]
    threshold = data.draw(st.sampled_from([None, everything[COUNT // 2].score, everything[0].score]))
    expected = single.search(
        queries,
        ids=None if wanted is None else catalogue.select(wanted),
        without=without,
        score_threshold=threshold,
        **options,
    )
    found = shards.search(
        queries,
        ids=None if wanted is None else shards.select(wanted),
        without=ids[without].tolist() if without else [],
        score_threshold=threshold,
        **options,
    )
    assert found == [[Hit(int(ids[hit.id]), hit.score) for hit in hits] for hits in expected]


def test_photos_whose_scores_hardly_differ_keep_their_order(tiny_bundle, tmp_path):
    """The score of the mean photo is so large beside the differences that 32 bits of the sum would not tell them."""
    random = np.random.default_rng(0)
    vectors = (100 + 1e-4 * random.normal(size=(60, 16))).astype(np.float32)
    write_parts(tmp_path / "parts", tiny_bundle, [photo(number, vector) for number, vector in enumerate(vectors)])
    build_shards(tmp_path / "shards", tiny_bundle, str(tmp_path / "parts"), 3)
    query = np.ones((1, 16), np.float32)
    with closing(Shards.open(tmp_path / "shards", "cpu")) as shards:
        [hits] = shards.search(query, 60)
        assert len({np.float32(hit.score) for hit in hits}) < len({hit.score for hit in hits})
        ordered = shards.order.photos(vectors).astype(np.float64)
        scores = dict(zip(range(60), (ordered @ shards.order.sketches(query)[0]).astype(np.float32), strict=True))
        numbers = [int(Path(one.uri).stem) for one in (shards.photos([hit.id])[hit.id] for hit in hits)]
    assert all(scores[a] >= scores[b] - 1e-7 * abs(scores[a]) for a, b in pairwise(numbers))


@pytest.mark.parametrize("dimensions", range(1, 17))
def test_pages_of_equal_scores_are_complete_at_every_number_of_dimensions(both, dimensions):
    shards, _, single, ids = both
    query = vectors_of(COUNT)[:1]
    [expected] = single.search(query, COUNT, dimensions=dimensions)
    assert len({hit.score for hit in expected}) < COUNT - 50  # most of these have an equal
    pages = [shards.search(query, 7, dimensions=dimensions, offset=offset)[0] for offset in range(0, COUNT, 7)]
    assert [hit for page in pages for hit in page] == [Hit(int(ids[hit.id]), hit.score) for hit in expected]


def test_scores_are_those_of_a_gallery_with_an_order_of_its_own(built, both, tiny_bundle, tmp_path):
    root, _ = built
    shards, *_ = both
    shutil.copytree(root / "single", tmp_path / "own")
    (tmp_path / "own" / SHARED_ORDER).unlink()
    with closing(Gallery.open(tmp_path / "own", write=True)) as gallery:
        gallery.publish()
    own, queries = Searcher.open(tmp_path / "own", "cpu"), vectors_of(5, seed=1)
    for dimensions in (1, 4, 16):
        expected, found = (each.search(queries, 50, dimensions=dimensions) for each in (own, shards))
        scores = [[[hit.score for hit in hits] for hits in lists] for lists in (found, expected)]
        np.testing.assert_allclose(*scores, rtol=1e-4, atol=1e-5)


def test_what_cannot_be_asked_of_a_gallery_cannot_be_asked_of_shards(both):
    shards, *_ = both
    query = vectors_of(1)
    for limit, offset in ((0, 0), (1, -1), (9_999, 2)):
        with pytest.raises(PageError, match=f"not limit {limit} and offset {offset}"):
            shards.search(query, limit, offset=offset)
    for dimensions in (0, 17):
        with pytest.raises(DimensionsError):
            shards.search(query, 1, dimensions=dimensions)
    with pytest.raises(FilterError):
        shards.select({'"': 1})


@given(st.integers(1, 2**40), st.integers(1, 4096), st.data())
def test_ids_of_shards_never_collide_and_keep_their_order(identifier, shards, data):
    shard, other = (data.draw(st.integers(0, shards - 1)) for _ in range(2))
    ids = np.array([identifier, identifier + 1])
    [first, second] = global_ids(ids, shard, shards)
    assert first < second < 2**53
    assert local_ids(np.array([first, second]), shard, shards).tolist() == ids.tolist()
    if other != shard:
        assert not set(global_ids(ids, other, shards).tolist()) & {int(first), int(second)}
        assert local_ids(np.array([first, second]), other, shards).size == 0


def test_merging_nothing_gives_nothing():
    assert merge([], 3) == merge([[], []], 3) == []
    assert merge([[Hit(3, 1.0)], [Hit(2, 1.0), Hit(6, 0.5)]], 2) == [Hit(2, 1.0), Hit(3, 1.0)]


@pytest.fixture
def shards(built, tmp_path):
    """Shards that may be changed."""
    return Path(shutil.copytree(built[0] / "shards", tmp_path / "shards"))


def uris_by_shard(path):
    found = {}
    for shard in range(SHARDS):
        with closing(Gallery.open(shard_folder(path, shard))) as gallery:
            for uri in gallery.catalogue.uris():
                assert uri not in found
                found[uri] = shard
    return found


def test_new_parts_bring_shards_up_to_date_and_keep_their_order(shards, tiny_bundle, tmp_path):
    order, before = (shards / SHARED_ORDER).read_bytes(), uris_by_shard(shards)
    changed = [one._replace(sha256=hashlib.sha256(one.uri.encode()).hexdigest()) for one in photos_of()[:20]]
    added = [one._replace(uri=f"/more{one.uri}") for one in photos_of(40, seed=1)]
    write_parts(tmp_path / "more", tiny_bundle, changed + added)
    report = build_shards(shards, tiny_bundle, str(tmp_path / "more"), SHARDS)
    assert (report.taken, report.unchanged) == (60, 0)
    after = uris_by_shard(shards)
    assert {one.uri: shard_of(one.sha256, SHARDS) for one in changed + added}.items() <= after.items()
    assert len(after) == COUNT + 40
    assert sum(before[one.uri] != after[one.uri] for one in changed) > 5  # went to another shard
    assert (shards / SHARED_ORDER).read_bytes() == order
    assert build_shards(shards, tiny_bundle, str(tmp_path / "more"), SHARDS).unchanged == 60
    with closing(Shards.open(shards, "cpu")) as opened:
        assert opened.count == COUNT + 40
        [[hit]] = opened.search(changed[0].vector[None], 1, ids=opened.select({"uri": changed[0].uri}))
        assert opened.photos([hit.id])[hit.id].sha256 == changed[0].sha256


def test_a_build_that_was_killed_goes_on(tiny_bundle, built, tmp_path, monkeypatch):
    root, _ = built

    def killed(gallery):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Gallery, "publish_changes", killed)
        with pytest.raises(KeyboardInterrupt):
            build_shards(tmp_path / "shards", tiny_bundle, str(root / "parts"), SHARDS)
    with pytest.raises(GalleryError, match="holds no shards"):
        Shards.open(tmp_path / "shards")
    with pytest.raises(GalleryError, match="has 4 shards, and keeps that number"):
        build_shards(tmp_path / "shards", tiny_bundle, str(root / "parts"), 3)
    assert build_shards(tmp_path / "shards", tiny_bundle, str(root / "parts"), SHARDS).unchanged == COUNT
    queries = vectors_of(3, seed=2)
    with (
        closing(Shards.open(tmp_path / "shards", "cpu")) as opened,
        closing(Shards.open(root / "shards", "cpu")) as other,
    ):
        assert opened.search(queries, 20, dimensions=5) == other.search(queries, 20, dimensions=5)


def test_a_restored_shard_fits_the_others(shards, tmp_path):
    queries = vectors_of(3, seed=2)
    with closing(Shards.open(shards, "cpu")) as opened:
        expected = opened.search(queries, 20, dimensions=5)
    folder = shard_folder(shards, 2)
    with closing(Gallery.open(folder)) as gallery:
        snapshot(gallery, tmp_path / "snapshot")
    shutil.rmtree(folder)
    restore(tmp_path / "snapshot", folder)
    with closing(Shards.open(shards, "cpu")) as opened:
        assert opened.search(queries, 20, dimensions=5) == expected


def test_a_shard_with_another_order_is_refused(shards):
    folder = shard_folder(shards, 1)
    (folder / SHARED_ORDER).unlink()
    with closing(Gallery.open(folder, write=True)) as gallery:
        gallery.publish()
    with pytest.raises(GalleryDamaged, match="differ in their model or order"):
        Shards.open(shards, "cpu")


def test_a_damaged_manifest_is_named(shards):
    (shards / MANIFEST).write_text("{")
    with pytest.raises(GalleryDamaged, match=r"shards\.json is damaged"):
        Shards.open(shards, "cpu")


def test_shards_may_be_empty(tiny_bundle, tmp_path):
    write_parts(tmp_path / "parts", tiny_bundle, photos_of(3))
    build_shards(tmp_path / "shards", tiny_bundle, str(tmp_path / "parts"), 16)
    with closing(Shards.open(tmp_path / "shards", "cpu")) as opened:
        [hits] = opened.search(vectors_of(1), 10)
        assert (opened.count, len(hits), len(opened.photos([hit.id for hit in hits]))) == (3, 3, 3)


def test_wrong_uses_say_what_to_do(built, shards, tiny_bundle, tmp_path):
    root, _ = built
    parts = str(root / "parts")
    for count in (3, 5):
        with pytest.raises(GalleryError, match=f"has {SHARDS} shards, and keeps that number; give --shards {SHARDS}"):
            build_shards(shards, tiny_bundle, parts, count)
    with pytest.raises(GalleryError, match="is a gallery and not a folder of shards"):
        build_shards(root / "single", tiny_bundle, parts, SHARDS)
    copy_bundle(tiny_bundle, tmp_path / "other")
    manifest = read_manifest(tmp_path / "other")
    head = manifest.encoders.photo.model_copy(update={"flip": not manifest.encoders.photo.flip})
    write_manifest(
        tmp_path / "other",
        manifest.model_copy(update={"encoders": manifest.encoders.model_copy(update={"photo": head})}),
    )
    with pytest.raises(ModelMismatch, match="built with another model"):
        build_shards(shards, tmp_path / "other", parts, SHARDS)
    write_parts(tmp_path / "rejects", tiny_bundle, [], [Rejected("/x.png", "not an image")])
    with pytest.raises(GalleryError, match="none of 1 photos"):
        build_shards(tmp_path / "new", tiny_bundle, str(tmp_path / "rejects"), 2)
    with pytest.raises(PartsError, match="holds no parts"):
        build_shards(tmp_path / "new", tiny_bundle, str(tmp_path), 2)


def test_the_command(built, tiny_bundle, tmp_path, capsys):
    root, _ = built
    options = [f"--parts={root / 'parts'}", f"--model={tiny_bundle}", f"--out={tmp_path / 'shards'}"]
    assert run_command(INDEX, ["build", "--shards=2", *options]) == 0
    assert f"{COUNT} taken over" in capsys.readouterr().out
    draw_shape("circle", 1, filled=False).save(tmp_path / "sketch.png")
    found = []
    for gallery in (tmp_path / "shards", root / "single"):
        words = ["search", f"--gallery={gallery}", f"--sketch={tmp_path / 'sketch.png'}", "--device=cpu", "--json"]
        assert run_command(INDEX, [*words, "--filter", '{"label": "class 3"}', "--limit=20"]) == 0
        results = json.loads(capsys.readouterr().out)["results"]
        found.append([(row["uri"], pytest.approx(row["score"], abs=1e-5)) for row in results])
    assert sorted(found[0]) == sorted(found[1])
    assert len(found[0]) == 20
    for wrong in (["--neighbours=3", *options], ["--photos=x", "--out=y"]):
        assert run_command(INDEX, ["build", "--shards=2", *wrong]) == 2
        assert "--shards needs --parts" in capsys.readouterr().err
