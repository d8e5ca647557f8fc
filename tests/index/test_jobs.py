import hashlib
import json
import shutil
import subprocess
import sys
import threading
import zipfile
from contextlib import closing
from pathlib import Path
from unittest import mock

import fsspec
import numpy as np
import pytest
from PIL import Image

from index.__main__ import INDEX
from index.errors import GalleryError, SourceError
from index.gallery.directory import Gallery
from index.gallery.generations import read_generation
from index.gallery.searcher import Searcher
from index.jobs import index_photos, sync_photos
from index.sources import list_photos, read_uri
from tests.conftest import draw_shape
from training.base.command_line import run_command
from training.base.regular_files import read_regular
from training.model.bundle import load_bundle
from training.model.images import open_image
from training.model.starter import STARTER_MODEL, read_terms


@pytest.fixture
def photos(shapes, tmp_path):
    return Path(shutil.copytree(shapes / "photo", tmp_path / "photos"))


def contents(path):
    """Ids, URIs, facts and vectors of a gallery."""
    gallery = Gallery.open(path)
    ids, vectors = gallery.catalogue.vectors(16)
    photos = gallery.catalogue.photos(ids.tolist())
    assert gallery.problems() == []
    gallery.close()
    return [photos[i] for i in ids.tolist()], vectors


def test_every_photo_is_embedded_and_described(build, photos, tiny_bundle):
    path, report = build(photos)
    assert (report.encoded, report.rejected, report.unchanged) == (24, 0, 0)
    rows, vectors = contents(path)
    expected = load_bundle(tiny_bundle, "cpu").encode_photos([open_image(Path(row.uri)) for row in rows])
    np.testing.assert_allclose(vectors, expected, atol=1e-5)
    assert (rows[0].label, rows[0].width, rows[0].height) == ("circle", 64, 64)
    assert rows[0].bytes == Path(rows[0].uri).stat().st_size


def test_the_same_command_again_does_nothing(build, photos):
    build(photos)
    path, report = build(photos)
    assert (report.encoded, report.unchanged) == (0, 24)
    assert Searcher.open(path, "cpu").generation == 1


def test_only_what_changed_is_encoded(build, photos):
    path, _ = build(photos)
    before, _ = contents(path)
    changed = photos / "circle" / "circle-0.png"
    draw_shape("square", 5, filled=True, size=80).save(changed)
    shutil.copy(photos / "line" / "line-1.png", photos / "line" / "twin.png")
    draw_shape("circle", 9, filled=False).save(photos / "new.png")
    (photos / "line" / "line-2.png").touch()
    path, report = build(photos)
    assert (report.encoded, report.copied, report.unchanged) == (2, 2, 23 - 1)
    after, vectors = contents(path)
    assert len(after) == 26
    assert next(row.id for row in before if row.uri == str(changed)) == next(
        row.id for row in after if row.uri == str(changed) and row.width == 80
    )
    position = {Path(row.uri).name: index for index, row in enumerate(after)}
    np.testing.assert_array_equal(vectors[position["twin.png"]], vectors[position["line-1.png"]])


@pytest.fixture
def noise(tmp_path):
    """A folder of 100 pictures, more than are encoded together or read ahead."""
    folder = tmp_path / "noise"
    folder.mkdir()
    random = np.random.default_rng(0)
    for number in range(100):
        Image.fromarray(random.integers(0, 256, (16, 16, 3), np.uint8)).save(folder / f"{number:03d}.png")
    return folder


@pytest.mark.parametrize("job", ["build", "add", "sync"])
@pytest.mark.parametrize("order", ["next", "far", "swapped", "reversed", "shuffled"])
def test_names_may_be_dealt_out_anew(build, noise, job, order):
    """The same bytes under other names: what one name had, another has now."""
    path, _ = build(noise)
    rows, before = contents(path)
    by_content = {row.sha256: vector for row, vector in zip(rows, before, strict=True)}
    names = np.arange(100)
    others = {
        "next": np.roll(names, 1),
        "far": np.roll(names, 40),
        "swapped": names ^ 1,
        "reversed": names[::-1],
        "shuffled": np.random.default_rng(1).permutation(100),
    }[order]
    for number in names:
        (noise / f"{number:03d}.png").rename(noise / f"old-{number}")
    for number, other in enumerate(others):
        (noise / f"old-{other}").rename(noise / f"{number:03d}.png")
    with closing(Gallery.open(path, write=True)) as gallery:
        if job == "sync":
            report = sync_photos(gallery, noise, "cpu")
        else:
            report = build(noise)[1] if job == "build" else index_photos(gallery, list_photos(noise), "cpu")
    changed = int((others != names).sum())
    assert (report.encoded + report.copied, report.unchanged, report.removed) == (changed, 100 - changed, 0)
    after, vectors = contents(path)
    assert [(row.id, row.uri) for row in after] == [(row.id, row.uri) for row in rows]
    for row, vector in zip(after, vectors, strict=True):
        assert row.sha256 == hashlib.sha256(Path(row.uri).read_bytes()).hexdigest()
        np.testing.assert_allclose(vector, by_content[row.sha256], atol=1e-5)


def test_unusable_photos_are_reported_exactly(build, photos):
    (photos / "text.png").write_text("no picture")
    (photos / "empty.jpg").touch()
    whole = (photos / "line" / "line-0.png").read_bytes()
    (photos / "cut.png").write_bytes(whole[: len(whole) // 2])
    path, report = build(photos)
    assert (report.encoded, report.rejected) == (24, 3)
    lines = (path / "rejects.jsonl").read_text().splitlines()
    rejects = {Path(row["file"]).name: row["reason"] for row in map(json.loads, lines)}
    assert sorted(rejects) == ["cut.png", "empty.jpg", "text.png"]
    assert rejects["empty.jpg"] == "empty file"


def test_nothing_usable(build, tmp_path):
    folder = tmp_path / "bad"
    folder.mkdir()
    (folder / "a.png").write_text("no picture")
    with pytest.raises(GalleryError, match="none of 1 photos is usable"):
        build(folder)


def test_sources(photos, tmp_path):
    listing = tmp_path / "list.txt"
    listing.write_text(
        "# comment\nphotos/circle/circle-0.png\nphotos/circle/circle-0.png\nmemory://bucket/a.png # far\n"
    )
    assert [c.uri for c in list_photos(listing)] == [str(photos / "circle" / "circle-0.png"), "memory://bucket/a.png"]
    table = tmp_path / "table.csv"
    table.write_text("uri,label,price:int\nphotos/circle/circle-0.png,round,3\n")
    [candidate] = list_photos(table)
    assert (candidate.label, candidate.metadata) == ("round", {"price": 3})
    for name, text, message in (
        ("none.csv", "file\nx\n", "no column 'uri'"),
        ("blank.csv", "uri,label\n,x\n", "row 1: uri"),
        ("empty.txt", "# nothing\n", "names no photos"),
    ):
        (tmp_path / name).write_text(text)
        with pytest.raises(SourceError, match=message):
            list_photos(tmp_path / name)
    with pytest.raises(SourceError, match="does not exist"):
        list_photos(tmp_path / "nowhere")


def test_remote_photos(tiny_bundle, tmp_path, photos):
    with fsspec.open("memory://bucket/round.png", "wb") as file:
        file.write((photos / "circle" / "circle-0.png").read_bytes())
    listing = tmp_path / "list.txt"
    listing.write_text("memory://bucket/round.png\nmemory://bucket/missing.png\nnonsense://x/y.png\n")
    gallery = Gallery.create(tmp_path / "remote", tiny_bundle)
    report = index_photos(gallery, list_photos(listing), "cpu")
    gallery.close()
    assert (report.encoded, report.rejected) == (1, 2)
    assert read_uri("memory://bucket/round.png")


@pytest.mark.parametrize("storage", ["memory", "zip"])
def test_a_folder_elsewhere(storage, tiny_bundle, tmp_path, photos):
    files = sorted(photos.rglob("*.png"))
    names = [file.relative_to(photos).as_posix() for file in files] + ["top.png", "notes.txt"]
    contents = [file.read_bytes() for file in files] + [files[0].read_bytes(), b"no photo"]
    if storage == "memory":
        source = "memory://elsewhere/photos"
        for name, content in zip(names, contents, strict=True):
            with fsspec.open(f"{source}/{name}", "wb") as file:
                file.write(content)
    else:
        with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
            for name, content in zip(names, contents, strict=True):
                archive.writestr(f"photos/{name}", content)
        source = f"zip://photos::{(tmp_path / 'all.zip').as_uri()}"
    found = list_photos(source)
    assert len(found) == len(files) + 1
    assert {candidate.label for candidate in found} == {None, *(file.parent.name for file in files)}
    with closing(Gallery.create(tmp_path / "gallery", tiny_bundle)) as gallery:
        report = index_photos(gallery, found, "cpu")
        assert (report.encoded, report.copied, report.rejected) == (len(files), 1, 0)
        again = index_photos(gallery, list_photos(source), "cpu")
        assert (again.encoded, again.unchanged) == (0, len(found))


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("nonsense://x/y", "Protocol not known"),
        ("memory://empty/folder", "names no photos"),
        ("zip://::file:///nowhere/all.zip", "all.zip"),
    ],
)
def test_a_folder_elsewhere_that_is_not_there(source, message):
    with pytest.raises(SourceError, match=message):
        list_photos(source)


def test_storage_that_needs_a_package(monkeypatch):
    def no_package(*_):
        raise ImportError("Install s3fs to access S3")

    monkeypatch.setattr(fsspec, "open", no_package)
    with pytest.raises(SourceError, match="Install s3fs"):
        read_uri("s3://bucket/a.png")


def build_command(model, photos, out):
    options = [f"--model={model}", f"--photos={photos}", f"--out={out}", "--device=cpu"]
    return [sys.executable, "-m", "index", "build", *options]


@pytest.fixture
def small_disk(tmp_path):
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1000k", "tmpfs", folder], capture_output=True)
    if mounted.returncode:
        pytest.skip("needs the right to mount a tmpfs")
    yield folder
    subprocess.run(["umount", folder], check=True)


def test_a_full_disk_is_named_and_leaves_the_gallery_as_it_was(tiny_bundle, photos, small_disk, capsys):
    arguments = build_command(tiny_bundle, photos, small_disk / "gallery")[3:]
    assert run_command(INDEX, arguments) == 0
    filler = small_disk / "filler"
    draw_shape("line", 1, filled=True, size=90).save(photos / "one-more.png")
    subprocess.run(["dd", "if=/dev/zero", f"of={filler}", "bs=1k"], capture_output=True, check=False)
    capsys.readouterr()
    assert run_command(INDEX, arguments) == 1
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("error: ")
    assert "full" in error.lower() or "space" in error.lower()
    assert Searcher.open(small_disk / "gallery", "cpu").count == 24
    filler.unlink()
    assert run_command(INDEX, arguments) == 0
    assert len(contents(small_disk / "gallery")[0]) == 25


def test_a_gallery_follows_a_folder(build, photos, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    draw_shape("square", 9, filled=True).save(elsewhere / "mine.png")
    path, _ = build(photos)
    build(elsewhere)
    (photos / "circle" / "circle-0.png").unlink()
    shutil.rmtree(photos / "line")
    draw_shape("square", 7, filled=True, size=90).save(photos / "square" / "square-0.png")
    draw_shape("circle", 8, filled=True).save(photos / "new.png")
    with closing(Gallery.open(path, write=True)) as gallery:
        report = sync_photos(gallery, photos, "cpu", allow_removing=100)
        assert (report.encoded, report.removed, report.unchanged) == (2, 7, 16)
        generation = read_generation(path).generation
        assert sync_photos(gallery, photos, "cpu", allow_removing=100).unchanged == 18
    assert read_generation(path).generation == generation
    rows, _ = contents(path)
    assert sorted(row.uri for row in rows) == sorted(
        [str(elsewhere / "mine.png"), *(str(file) for file in photos.rglob("*.png"))]
    )


def test_a_folder_of_broken_photos_empties_no_gallery(build, photos):
    path, _ = build(photos)
    for file in photos.rglob("*.png"):
        file.unlink()
    (photos / "broken.png").write_text("no picture")
    with closing(Gallery.open(path, write=True)) as gallery, pytest.raises(GalleryError, match="leave no photo"):
        sync_photos(gallery, photos, "cpu", allow_removing=100)
    assert len(contents(path)[0]) == 24


def test_the_same_bytes_are_embedded_once_whenever_they_come(build, tmp_path):
    folder = tmp_path / "copies"
    folder.mkdir()
    picture = draw_shape("circle", 1, filled=True)
    for number in range(100):
        picture.save(folder / f"{number}.png")
    path, report = build(folder)
    assert (report.encoded, report.copied) == (1, 99)
    _, vectors = contents(path)
    assert (vectors == vectors[0]).all()


def test_fields_are_made_filterable_by_commands_and_stay_so(tiny_bundle, photos, tmp_path, capsys):
    gallery = tmp_path / "gallery"

    def run(*arguments):
        status = run_command(INDEX, [str(argument) for argument in arguments])
        output = capsys.readouterr()
        assert run_command(INDEX, ["info", "--gallery", str(gallery), "--json"]) == 0
        return status, output.err, json.loads(capsys.readouterr().out)["filterable"]

    build = ["build", "--model", tiny_bundle, "--photos", photos / "circle", "--out", gallery]
    assert run(*build) == (0, mock.ANY, [])
    three = ["label", "metadata.width", "year"]
    assert run(*build, "--filterable", "year,label,metadata.width") == (0, mock.ANY, three)
    assert run(*build) == (0, mock.ANY, three)
    status, errors, filterable = run("compact", "--gallery", gallery, "--filterable", "uri")
    assert (status, filterable) == (1, three)
    assert "uri differs from photo to photo" in errors
    assert run("compact", "--gallery", gallery, "--filterable", "shop") == (0, mock.ANY, ["shop"])
    assert run("compact", "--gallery", gallery, "--filterable", "") == (0, mock.ANY, [])


def test_the_command_line(tiny_bundle, photos, tmp_path, capsys, monkeypatch):
    def run(*arguments):
        status = run_command(INDEX, [str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    gallery = tmp_path / "gallery"
    assert run("build", "--model", tiny_bundle, "--photos", photos / "circle", "--out", gallery)[0] == 0
    assert run("add", "--gallery", gallery, "--photos", photos / "line")[0] == 0
    facts = json.loads(run("info", "--gallery", gallery, "--json")[1])
    assert (facts["count"], facts["model_terms"]) == (12, None)
    monkeypatch.setattr("index.commands.looking.terms_of", lambda manifest: read_terms(STARTER_MODEL))
    assert "starter model: trained on pictures that are offered for research" in run("info", "--gallery", gallery)[1]
    sketch = photos / "line" / "line-0.png"
    status, out, _ = run("search", "--gallery", gallery, "--sketch", sketch, "--limit", 3, "--dimensions", 4, "--json")
    results = json.loads(out)["results"]
    assert status == 0
    assert len(results) == 3
    assert results == sorted(results, key=lambda result: -result["score"])
    assert run("remove", "--gallery", gallery, "--uris", sketch)[0] == 0
    assert "11 photos" in run("verify", "--gallery", gallery)[1]
    for ids in (("--ids", "2,3"), ("--ids", 4, "--ids", 5)):
        assert run("remove", "--gallery", gallery, *ids)[1].startswith("2 removed")
    assert run("sync", "--gallery", gallery, "--photos", photos / "circle")[0] == 0
    assert "kind codes" in run("compact", "--gallery", gallery, "--kind", "codes", "--recall", 0.9)[1]
    assert run("snapshot", "--gallery", gallery, "--out", tmp_path / "copy")[0] == 0
    assert run("restore", "--snapshot", tmp_path / "copy", "--out", tmp_path / "back")[1].endswith("11 photos\n")
    found = []
    for options in ((), ("--recall", 1), ("--recall", 0.5), ("--filter", '{"id": {"gt": 8}}'), ("--unique",)):
        status, out, err = run("search", "--gallery", gallery, "--sketch", sketch, "--limit", 20, "--json", *options)
        assert status == 0, err
        found.append([row["id"] for row in json.loads(out)["results"]])
    assert found[0] == found[1] == found[4]
    assert found[3] == [identifier for identifier in found[0] if identifier > 8][:10]
    assert run("search", "--gallery", gallery, "--sketch", sketch, "--score-threshold", 1e9)[1].strip() == ""
    (gallery / "generations" / (gallery / "CURRENT").read_text().strip() / "vectors.npy").write_bytes(b"half")
    assert run("verify", "--gallery", gallery)[0] == 1
    assert run("verify", "--gallery", gallery, "--repair")[0] == 0
    for arguments, expected, message in (
        (("search", "--gallery", gallery, "--sketch", sketch, "--dimensions", 17), 1, "dimensions must be 1 to 16"),
        (("search", "--gallery", gallery, "--sketch", sketch, "--limit", 0), 2, "limit: Input should be greater"),
        (("search", "--gallery", gallery, "--sketch", tiny_bundle / "model.json"), 1, "not an image"),
        (("search", "--gallery", gallery, "--sketch", sketch, "--filter", "label"), 1, "the filter is not JSON"),
        (("search", "--gallery", gallery, "--sketch", sketch, "--recall", 0), 2, "recall: Input should be greater"),
        (("sync", "--gallery", gallery, "--photos", tmp_path / "no"), 1, "is not a folder"),
        (("restore", "--snapshot", tmp_path, "--out", tmp_path / "z"), 1, "take another snapshot"),
        (("compact", "--gallery", gallery, "--kind", "best"), 2, "kind: Input should be"),
        (("search", "--gallery", tmp_path / "no", "--sketch", sketch), 1, "is not a gallery"),
        (("remove", "--gallery", gallery, "--uris", "nowhere"), 1, "nothing was removed"),
        (("remove", "--gallery", gallery), 2, "--ids or --uris"),
        (("build", "--model", tmp_path, "--photos", photos, "--out", tmp_path / "x"), 1, "not a model bundle"),
    ):
        status, _, err = run(*arguments)
        errors = [line for line in err.splitlines() if line.startswith("error: ")]
        assert (status, len(errors)) == (expected, 1), err
        assert message in errors[0]


def test_more_photos_are_read_than_cores_compute(build, photos, monkeypatch):
    together = threading.Barrier(2, timeout=30)
    first = iter(range(2))

    def read(path):
        if next(first, None) is not None:  # the first of two threads
            together.wait()
        return read_regular(path)

    monkeypatch.setattr("training.inference.plan.processors", lambda: 1)
    monkeypatch.setattr("index.reading.read_regular", read)
    _, report = build(photos)
    assert (report.encoded, report.rejected) == (24, 0)


def test_a_job_says_what_limits_it(build, photos, monkeypatch, capsys):
    _, report = build(photos)
    assert report.times.limit in ("reading", "decoding", "encoding", "writing")
    assert f"images/s, limited by {report.times.limit}), " in str(report)
    assert "limited by" in capsys.readouterr().err
    assert all(report.times.clock.values())
    _, report = build(photos)
    assert "limited by" not in str(report)


def test_known_new_and_unusable_photos_of_one_thread_keep_their_places(build, photos, tiny_bundle):
    build(photos)
    files = sorted(photos.rglob("*.png"))
    shutil.copy(files[0], photos / "a copy.png")
    draw_shape("circle", 99, filled=True, size=80).save(photos / "b new.png")
    (photos / "c bad.png").write_bytes(b"no image")
    draw_shape("square", 98, filled=True, size=72).save(photos / "d new.png")
    path, report = build(photos)
    assert (report.encoded, report.copied, report.rejected, report.unchanged) == (2, 1, 1, 24)
    rows, vectors = contents(path)
    expected = load_bundle(tiny_bundle, "cpu").encode_photos([open_image(Path(row.uri)) for row in rows])
    np.testing.assert_allclose(vectors, expected, atol=1e-5)
