"""Embedding into parts, galleries made of parts, and back: nothing is lost, and bad parts say what is wrong."""

import importlib
import json
import shutil
import sys
from contextlib import closing
from pathlib import Path

import fsspec
import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from index.__main__ import INDEX
from index.errors import GalleryError, ModelMismatch, PartsError
from index.gallery.directory import Gallery
from index.gallery.precision import recorded_precision
from index.gallery.searcher import Searcher
from index.parts.embedding import embed_photos, facts_of_model
from index.parts.exporting import export_gallery
from index.parts.folder import PartsFolder
from index.parts.importing import import_parts
from index.parts.schema import schema_of
from index.sources import list_photos
from training.base.command_line import run_command
from training.model.manifest import read_manifest


def contents(path):
    """Facts and vectors of a gallery by URI."""
    with closing(Gallery.open(path)) as gallery:
        assert gallery.problems() == []
        ids, vectors = gallery.catalogue.vectors(16)
        states = gallery.catalogue.states(gallery.catalogue.uris())
        photos = gallery.catalogue.photos(ids.tolist())
    rows = {}
    for identifier, vector in zip(ids.tolist(), vectors, strict=True):
        photo = photos[identifier]
        rows[photo.uri] = (photo._replace(id=0), states[photo.uri], vector.tobytes())
    return rows


@pytest.fixture(scope="module")
def photos(shapes, tmp_path_factory):
    """24 photos, one of them a copy, and two files that are none."""
    folder = Path(shutil.copytree(shapes / "photo", tmp_path_factory.mktemp("pictures") / "photos"))
    shutil.copy(folder / "line" / "line-1.png", folder / "line" / "line-2.png")
    (folder / "circle" / "broken.png").write_bytes(b"no picture")
    (folder / "square" / "empty.png").touch()
    return folder


@pytest.fixture(scope="module")
def embedded(photos, tiny_bundle, tmp_path_factory):
    """The photos in four parts."""
    parts = tmp_path_factory.mktemp("embedded") / "parts"
    embed_photos(list_photos(photos), tiny_bundle, str(parts), "cpu", part_size=8)
    return parts


@pytest.fixture
def parts(embedded, tmp_path):
    """Four parts that may be changed."""
    return Path(shutil.copytree(embedded, tmp_path / "parts"))


def gallery_of(parts, model, path):
    with closing(Gallery.create(path, model)) as gallery:
        return import_parts(gallery, str(parts))


def rewrite(file, change):
    """Replaces a part by one whose table was changed."""
    parquet.write_table(change(parquet.read_table(file)), file)


def test_a_gallery_of_parts_is_the_gallery_of_their_photos(build, parts, photos, tiny_bundle, tmp_path):
    direct, _ = build(photos)
    report = gallery_of(parts, tiny_bundle, tmp_path / "imported")
    assert (report.taken, report.unchanged, report.rejected) == (24, 0, 2)
    assert contents(tmp_path / "imported") == contents(direct)
    rejects = [(tmp_path / name / "rejects.jsonl").read_text().splitlines() for name in ("gallery", "imported")]
    assert sorted(rejects[0]) == sorted(rejects[1])
    assert len(rejects[0]) == 2


def test_the_schema_says_what_the_columns_are_and_who_made_the_vectors(parts, tiny_bundle):
    tables = [parquet.read_table(file) for file in sorted(parts.iterdir())]
    assert len(tables) == 4
    kinds = {table.schema.field("vector").type for table in tables}
    assert {(kind.list_size, kind.value_type) for kind in kinds} == {(16, pa.float32())}
    stated = [json.loads(table.schema.metadata[b"svdraw"]) for table in tables]
    assert stated[0]["model"] == read_manifest(tiny_bundle).digest
    assert all(one == stated[0] | {"dim": 16, "order": "model"} for one in stated)
    rows = [row for table in tables for row in table.to_pylist()]
    assert {Path(row["uri"]).name for row in rows if row["reason"]} == {"broken.png", "empty.png"}
    assert all((row["vector"] is None) == (row["reason"] is not None) for row in rows)


def test_a_gallery_that_was_exported_comes_back_as_it_was(fill, tiny_bundle, tmp_path):
    vectors = np.random.default_rng(0).normal(size=(100, 16)).astype(np.float32)
    path = fill(vectors, metadata=lambda number: {"year": number, "tags": ["a", None, {"b": "ü"}]})
    with closing(Gallery.open(path, write=True)) as gallery:
        gallery.catalogue.remove([3, 50])
        gallery.publish_changes()
        assert export_gallery(gallery, str(tmp_path / "parts"), part_size=33) == 98
        with pytest.raises(PartsError, match="holds parts already"):
            export_gallery(gallery, str(tmp_path / "parts"))
    gallery_of(tmp_path / "parts", tiny_bundle, tmp_path / "again")
    assert contents(tmp_path / "again") == contents(path)


def test_photos_in_the_gallery_are_found_from_elsewhere(build, photos, tiny_bundle, tmp_path):
    inside = tmp_path / "gallery" / "photos" / "ab"
    build(photos)
    inside.mkdir(parents=True)
    shutil.copy(photos / "circle" / "circle-0.png", inside / "upload.png")
    path, _ = build(inside)
    with closing(Gallery.open(path, write=True)) as gallery:
        assert "photos/ab/upload.png" in gallery.catalogue.uris()
        export_gallery(gallery, str(tmp_path / "exported"))
        assert import_parts(gallery, str(tmp_path / "exported")).unchanged == 25  # under its own name
    gallery_of(tmp_path / "exported", tiny_bundle, tmp_path / "other")
    with closing(Gallery.open(tmp_path / "other")) as gallery:
        assert str(inside / "upload.png") in gallery.catalogue.uris()


def test_an_embedding_job_goes_on_where_it_stopped(photos, parts, tiny_bundle, tmp_path):
    before = {file.name: file.read_bytes() for file in parts.iterdir()}
    first, *_ = sorted(parts.iterdir())
    lost = parquet.read_table(first)["uri"].to_pylist()
    first.unlink()
    (parts / f".{first.name}.killed").write_bytes(before[first.name][:100])  # what a kill leaves
    report = embed_photos(list_photos(photos), tiny_bundle, str(parts), "cpu", part_size=8)
    assert (report.embedded + report.rejected, report.known) == (len(lost), 26 - len(lost))
    uris = [uri for file in parts.glob("part-*") for uri in parquet.read_table(file)["uri"].to_pylist()]
    assert len(uris) == len(set(uris)) == 26
    report = embed_photos(list_photos(photos), tiny_bundle, str(parts), "cpu")
    assert (report.embedded, report.rejected, report.known) == (0, 0, 26)


def test_the_same_parts_again_change_nothing(parts, tiny_bundle, tmp_path):
    gallery_of(parts, tiny_bundle, tmp_path / "imported")
    report = gallery_of(parts, tiny_bundle, tmp_path / "imported")
    assert (report.taken, report.unchanged, report.described) == (0, 24, 0)
    assert Searcher.open(tmp_path / "imported", "cpu").generation == 1


def test_what_parts_say_of_known_photos_is_taken_over(parts, tiny_bundle, tmp_path):
    gallery_of(parts, tiny_bundle, tmp_path / "imported")
    for file in parts.iterdir():
        rewrite(file, lambda t: t.set_column(t.schema.get_field_index("label"), "label", pa.array(["new"] * len(t))))
    assert gallery_of(parts, tiny_bundle, tmp_path / "imported").described == 24
    with closing(Gallery.open(tmp_path / "imported")) as gallery:
        assert len(gallery.catalogue.select({"label": "new"})) == 24


def test_parts_lie_on_any_storage(photos, tiny_bundle, tmp_path):
    out = "memory://bucket/parts"
    try:
        embed_photos(list_photos(photos), tiny_bundle, out, "cpu", part_size=10)
        assert len(PartsFolder(out).names()) == 3
        assert gallery_of(out, tiny_bundle, tmp_path / "imported").taken == 24
    finally:
        fsspec.filesystem("memory").rm("/bucket", recursive=True)


def test_embeddings_that_others_computed_are_taken_over(tiny_bundle, tmp_path):
    schema = schema_of(facts_of_model(tiny_bundle))
    names = ["uri", "sha256", "bytes", "width", "height", "vector"]
    needed = pa.schema([schema.field(name) for name in names], metadata=schema.metadata)
    rows = [
        {
            "uri": f"s3://b/{n}.jpg",
            "sha256": f"{n:064x}",
            "bytes": 9,
            "width": 3,
            "height": 4,
            "vector": [float(n)] * 16,
        }
        for n in range(5)
    ]
    (tmp_path / "theirs").mkdir()
    as_lists = needed.set(5, pa.field("vector", pa.list_(pa.float64())))  # as most libraries write vectors
    parquet.write_table(pa.Table.from_pylist(rows, as_lists), tmp_path / "theirs" / "x.parquet")
    assert gallery_of(tmp_path / "theirs", tiny_bundle, tmp_path / "imported").taken == 5
    assert np.frombuffer(contents(tmp_path / "imported")["s3://b/4.jpg"][2], np.float32).tolist() == [4.0] * 16


def with_cell(table, name, row, value):
    cells = table[name].to_pylist()
    cells[row] = value
    return table.set_column(
        table.schema.get_field_index(name), table.schema.field(name), pa.array(cells, table[name].type)
    )


def other_facts(**changes):
    def change(table):
        facts = json.loads(table.schema.metadata[b"svdraw"]) | changes
        return table.replace_schema_metadata({b"svdraw": json.dumps(facts).encode()})

    return change


FAULTS = {
    "another precision": (other_facts(precision="int8 0"), ModelMismatch, "holds vectors in int8 0, not in fp32"),
    "another model": (other_facts(model="0" * 64), ModelMismatch, "of another model"),
    "another size": (other_facts(dim=8), PartsError, "vectors of 8 dimensions, not 16"),
    "another version": (other_facts(version=9), PartsError, "another version of svdraw"),
    "another order": (other_facts(order="gallery"), PartsError, "another version of svdraw"),
    "no facts": (lambda t: t.replace_schema_metadata(None), PartsError, "does not say which model"),
    "no column": (lambda t: t.drop_columns(["sha256"]), PartsError, "has no column 'sha256'"),
    "not finite": (lambda t: with_cell(t, "vector", 1, [float("nan")] * 16), PartsError, "vector that is not finite"),
    "no number": (lambda t: with_cell(t, "vector", 1, [None] * 16), PartsError, "vector that is not finite"),
    "no vector": (lambda t: with_cell(t, "vector", 1, None), PartsError, "neither a vector nor a reason"),
    "no digest": (lambda t: with_cell(t, "sha256", 1, "../x"), PartsError, "no SHA-256"),
    "no width": (lambda t: with_cell(t, "width", 1, None), PartsError, "has no width"),
    "no URI": (lambda t: with_cell(t, "uri", 1, "relative.png"), PartsError, "neither a URI nor an absolute path"),
    "a NUL": (lambda t: with_cell(t, "uri", 1, "/a\0b"), PartsError, "neither a URI nor an absolute path"),
    "no JSON": (lambda t: with_cell(t, "metadata", 1, '{"a": NaN}'), PartsError, "not JSON"),
    "no object": (lambda t: with_cell(t, "metadata", 1, "[]"), PartsError, "not a JSON object"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_bad_part_is_named_and_loses_nothing(fault, parts, tiny_bundle, tmp_path):
    change, kind, message = FAULTS[fault]
    gallery_of(parts, tiny_bundle, tmp_path / "imported")
    before = contents(tmp_path / "imported")
    assert len(before) == 24
    last = sorted(parts.iterdir())[-1]
    whole = last.read_bytes()
    rewrite(last, change)
    for path in (tmp_path / "imported", tmp_path / "new"):
        with pytest.raises(kind, match=message) as caught:
            gallery_of(parts, tiny_bundle, path)
        assert last.name in str(caught.value)
    assert contents(tmp_path / "imported") == before
    last.write_bytes(whole)
    assert gallery_of(parts, tiny_bundle, tmp_path / "new").rejected == 2
    assert contents(tmp_path / "new") == before


@pytest.mark.parametrize("length", [0, 10, -1])
def test_a_part_that_is_cut_off_is_named_before_anything_is_taken_over(length, parts, photos, tiny_bundle, tmp_path):
    last = sorted(parts.iterdir())[-1]
    last.write_bytes(last.read_bytes()[:length])
    with closing(Gallery.create(tmp_path / "imported", tiny_bundle)) as gallery:
        with pytest.raises(PartsError, match=rf"{last.name} is cut off, or no Parquet file"):
            import_parts(gallery, str(parts))
        assert gallery.catalogue.count() == 0
    with pytest.raises(PartsError, match=r"remove it and run the job that wrote it again"):
        embed_photos(list_photos(photos), tiny_bundle, str(parts), "cpu")
    last.unlink()
    embed_photos(list_photos(photos), tiny_bundle, str(parts), "cpu")
    assert gallery_of(parts, tiny_bundle, tmp_path / "imported").taken == 24


def test_there_must_be_parts_and_photos_in_them(parts, tiny_bundle, tmp_path):
    for empty in (tmp_path / "none", tmp_path):
        with pytest.raises(PartsError, match="holds no parts"):
            gallery_of(empty, tiny_bundle, tmp_path / "x")
    with pytest.raises(PartsError, match="gs9"):
        PartsFolder("gs9://bucket")
    for file in parts.iterdir():
        rewrite(file, lambda table: table.filter(pa.compute.is_valid(table["reason"])))
    with pytest.raises(GalleryError, match=r"none of 2 photos in .* is usable"):
        gallery_of(parts, tiny_bundle, tmp_path / "y")


def test_the_commands(photos, tiny_bundle, tmp_path, capsys):
    def run(*words):
        code = run_command(INDEX, [str(word) for word in words])
        return code, "".join(capsys.readouterr())

    parts, gallery = tmp_path / "parts", tmp_path / "gallery"
    code, text = run("embed", "--photos", photos, "--model", tiny_bundle, "--out", parts, "--device=cpu")
    assert (code, "24 embedded" in text, "2 rejected" in text) == (0, True, True)
    code, text = run("build", "--parts", parts, "--model", tiny_bundle, "--out", gallery)
    assert (code, "24 taken over, 0 unchanged, 0 described anew, 2 rejected" in text) == (0, True)
    code, text = run("add", "--parts", parts, "--gallery", gallery)
    assert (code, "0 taken over, 24 unchanged" in text) == (0, True)
    code, text = run("export", "--gallery", gallery, "--out", tmp_path / "exported", "--part-size", 10)
    assert (code, "24 photos" in text, len(list((tmp_path / "exported").iterdir()))) == (0, True, 3)
    for words in (("build", "--out", gallery), ("build", "--out", gallery, "--photos", photos, "--parts", parts)):
        code, text = run(*words)
        assert (code, "give either --photos or --parts" in text) == (2, True)


def test_only_parts_need_the_package_that_reads_them(monkeypatch, capsys):
    for name in [name for name in sys.modules if name.startswith(("index.parts.", "index.commands."))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    importlib.import_module("index.commands.changing")
    assert run_command(INDEX, ["build", "--photos", "/no/folder", "--out", "x"]) == 1
    assert "/no/folder does not exist" in capsys.readouterr().err
    assert run_command(INDEX, ["build", "--parts", "/no/folder", "--out", "x"]) == 1
    assert '--parts needs pyarrow: pip install "svdraw[all]"' in capsys.readouterr().err
    with pytest.raises(ModuleNotFoundError, match="pyarrow"):
        importlib.import_module("index.commands.parts")


def test_the_precision_of_parts_is_that_of_the_gallery_that_they_make(parts, tiny_bundle, tmp_path):
    for part in parts.iterdir():
        rewrite(part, other_facts(precision="int8 0"))
    gallery_of(parts, tiny_bundle, tmp_path / "gallery")
    with closing(Gallery.open(tmp_path / "gallery")) as gallery:
        assert recorded_precision(gallery.catalogue) == "int8 0"
        export_gallery(gallery, str(tmp_path / "again"))
    folder = PartsFolder(str(tmp_path / "again"))
    assert {folder.facts(name).precision for name in folder.names()} == {"int8 0"}
