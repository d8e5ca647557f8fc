"""Folders, lists and names: what is listed, under which path, and what is said of the rest."""

import io
import json
import os
import shutil
import zipfile
from contextlib import closing
from pathlib import Path

import fsspec
import pytest

from index.errors import SourceError
from index.gallery.directory import Gallery
from index.gallery.uris import canonical_uris, known_uris, local_path
from index.jobs import index_photos, sync_photos
from index.sources import list_folder, list_photos, read_uri
from tests.conftest import draw_shape
from tests.training.model.test_formats import dng, heif, jxl
from training.base.regular_files import UnusableFile
from training.model.formats import FORMAT_SUFFIXES
from training.model.images import IMAGE_SUFFIXES


@pytest.fixture
def photos(tmp_path):
    """Four photos, two of them in a subfolder."""
    folder = tmp_path / "photos"
    (folder / "sub").mkdir(parents=True)
    for number, name in enumerate(("0.png", "1 a.png", "sub/2.png", "sub/3.png")):
        draw_shape("circle", number, filled=True).save(folder / name)
    return folder


def names(listing, top):
    return sorted(os.path.relpath(photo.uri, top) for photo in listing)


def write_list(path, *lines):
    path.write_text("".join(f"{line}\n" for line in lines))
    return path


def spellings(photos):
    """The same folder, or lists of the same photos, in other words."""
    link = photos.parent / "link"
    link.symlink_to(photos)
    files = sorted(file.relative_to(photos) for file in photos.rglob("*.png"))
    return {
        "relative": "photos",
        "with dots": "photos/sub/../../photos",
        "through a link": link,
        "absolute": photos,
        "URI": photos.as_uri(),
        "URI through a link": f"file://localhost{link}",
        "list of dots": write_list(photos / "dots.txt", *(f"../photos/sub/../{file}" for file in files)),
        "list of links": write_list(photos.parent / "links.txt", *(link / file for file in files)),
        "list of URIs": write_list(photos.parent / "uris.txt", *((photos / file).as_uri() for file in files)),
    }


def test_a_photo_has_one_path_however_it_is_spelled(photos, monkeypatch):
    monkeypatch.chdir(photos.parent)
    expected = {str(photos / name) for name in ("0.png", "1 a.png", "sub/2.png", "sub/3.png")}
    for spelling, source in spellings(photos).items():
        assert {photo.uri for photo in list_photos(source)} == expected, spelling


@pytest.mark.parametrize("before", ["dots", "link", "URI", "link in the gallery"])
def test_a_photo_known_under_another_spelling_keeps_its_id(photos, tiny_bundle, tmp_path, before):
    (tmp_path / "link").symlink_to(photos)
    path = photos / "gallery" if before == "link in the gallery" else tmp_path / "gallery"
    with closing(Gallery.create(path, tiny_bundle)) as gallery:
        index_photos(gallery, list_photos(photos), "cpu")
        with gallery.writing():
            known = {photo.id: Path(photo.uri).relative_to(photos) for photo in gallery.catalogue.page(0, 9)}
            folder = {"dots": f"{tmp_path}/gallery/../photos", "URI": photos.as_uri()}.get(before, tmp_path / "link")
            gallery.catalogue.rename({identifier: f"{folder}/{name}" for identifier, name in known.items()})
        renamed = gallery.catalogue.uris()
        assert not any(uri.startswith(str(photos)) for uri in renamed)
        for job in (
            lambda: index_photos(gallery, list_photos(photos), "cpu"),
            lambda: sync_photos(gallery, photos, "cpu"),
        ):
            report = job()
            assert (report.encoded, report.unchanged + report.copied, report.removed) == (0, 4, 0)
            assert gallery.catalogue.uris() == renamed


def test_a_changed_file_behind_a_uri_is_noticed(photos, tiny_bundle, tmp_path):
    listing = write_list(tmp_path / "list.txt", (photos / "1 a.png").as_uri())
    with closing(Gallery.create(tmp_path / "gallery", tiny_bundle)) as gallery:
        assert index_photos(gallery, list_photos(listing), "cpu").encoded == 1
        assert index_photos(gallery, list_photos(listing), "cpu").unchanged == 1
        draw_shape("line", 2, filled=True, size=80).save(photos / "1 a.png")
        assert index_photos(gallery, list_photos(listing), "cpu").encoded == 1
        assert [(photo.id, photo.width) for photo in gallery.catalogue.page(0, 9)] == [(1, 80)]


def test_paths_and_uris(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file.png").symlink_to("/nowhere.png")
    assert canonical_uris(["file.png", "x/../file.png", "s3://bucket/a%20b.png"]) == [
        *(str(tmp_path / "file.png") for _ in range(2)),
        "s3://bucket/a%20b.png",
    ]
    assert canonical_uris(["/a.png", "a.png", "/", ".", "file:///a%00.png"]) == [
        "/a.png",
        str(tmp_path / "a.png"),
        "/",
        str(tmp_path),
        "file:///a%00.png",
    ]
    for uri in ("file:///srv/a%20b.png", "file://localhost/srv/a b.png", "local:///srv/a b.png"):
        assert local_path(uri) == Path("/srv/a b.png")
    for uri in ("s3://bucket/a.png", "zip://a.png::file:///srv/all.zip", "file:///srv/a.gz::file:///srv/b"):
        assert local_path(uri) is None
    assert known_uris(["/srv/a.png", "/srv/b.png"], ["/srv/x/../b.png"], tmp_path) == ["/srv/a.png", "/srv/x/../b.png"]


def test_side_folders_are_passed_over_and_other_files_are_counted(photos):
    for folder in ("@eaDir", ".thumbnails", "#recycle", ".Trash-1000", "sub/.hidden", "sub/@eaDir", "lost+found"):
        (photos / folder).mkdir()
        shutil.copy(photos / "0.png", photos / folder / "thumb.png")
        (photos / folder / "index.db").touch()
    for name in ("a.svg", "b.SVG", "sub/c.txt", "README"):
        (photos / name).touch()
    for name in ("new.jfif", "sub/new.JPE"):
        draw_shape("circle", 1, filled=True).save(photos / name, "JPEG")
    listing = list_folder(photos)
    assert names(listing, photos) == ["0.png", "1 a.png", "new.jfif", "sub/2.png", "sub/3.png", "sub/new.JPE"]
    assert listing.notes == "4 files skipped: 2 .svg, 1 without suffix, 1 .txt"
    assert list_folder(photos / ".thumbnails").notes == "1 file skipped: 1 .db"  # asked for by name
    assert {photo.label for photo in listing} == {None, "sub"}


@pytest.fixture
def without_extra(monkeypatch):
    """As if the extra ``formats`` were not installed."""
    monkeypatch.setattr("index.sources.FORMAT_SUFFIXES", dict.fromkeys(FORMAT_SUFFIXES, False))
    monkeypatch.setattr("index.sources.IMAGE_SUFFIXES", IMAGE_SUFFIXES - set(FORMAT_SUFFIXES))


def test_what_would_make_skipped_files_readable_is_said(photos, without_extra, tmp_path):
    for name in ("a.heic", "b.HEIC", "sub/c.NEF", "d.txt"):
        (photos / name).touch()
    notes = '4 files skipped: 2 .heic, 1 .txt, 1 .nef; to read .heic, .nef: pip install "svdraw[formats]"'
    assert list_folder(photos).notes == notes
    assert list_photos(f"memory:/{fsspec_copy(photos)}").notes.split("; ")[1] == notes.split("; ")[1]
    other = tmp_path / "other"
    other.mkdir()
    (other / "a.heic").touch()
    with pytest.raises(SourceError, match=r'names no photos \(.*\); to read \.heic: pip install "svdraw\[formats\]"'):
        list_folder(other)


def fsspec_copy(folder):
    """A copy of a folder in memory."""
    for file in folder.rglob("*.*"):
        fsspec.filesystem("memory").pipe(f"/copy/{file.relative_to(folder)}", file.read_bytes())
    return "/copy"


def test_all_formats_are_indexed(tiny_bundle, tmp_path, caplog):
    folder = tmp_path / "phone"
    folder.mkdir()
    image = draw_shape("circle", 1, filled=True, size=80)
    files = {
        "a.HEIC": heif(image),
        "b.jxl": jxl(image),
        "c.dng": dng(image),
        "d.avif": written(image, "AVIF"),
        "e.heic": heif(image)[:200],
        "f.heif": b"",
    }
    for name, content in files.items():
        (folder / name).write_bytes(content)
    with closing(Gallery.create(tmp_path / "gallery", tiny_bundle)) as gallery:
        report = index_photos(gallery, list_photos(folder), "cpu")
        assert (report.encoded, report.rejected) == (4, 2)
        assert {(photo.width, photo.height) for photo in gallery.catalogue.page(0, 9)} == {(80, 80)}
    rejects = [json.loads(line) for line in (tmp_path / "gallery" / "rejects.jsonl").read_text().splitlines()]
    assert [reject["reason"].split(" (")[0] for reject in rejects] == ["truncated or damaged image", "empty file"]


def written(image, kind):
    buffer = io.BytesIO()
    image.save(buffer, kind)
    return buffer.getvalue()


def test_loops_of_links_end(photos):
    (photos / "sub" / "loop").symlink_to(photos)
    (photos / "self.png").symlink_to("self.png")
    listing = list_folder(photos)
    assert names(listing, photos) == ["0.png", "1 a.png", "self.png", "sub/2.png", "sub/3.png"]
    assert listing.notes == "1 file skipped: 1 links to folders"


@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_lines_of_a_list(tmp_path, mark, end):
    lines = ["# comment", "a#1.png", "b.png # comment", "  c d.png\t#", "", " # e.png", "f\u2028g.png"]
    path = tmp_path / "list.txt"
    path.write_bytes((mark + end.join(lines)).encode())
    assert names(list_photos(path), tmp_path) == ["a#1.png", "b.png", "c d.png", "f\u2028g.png"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a.png\ncafé.png\n".encode("latin-1"), "list.txt, line 2: not UTF-8; name the encoding with --encoding"),
        ("a.png\n".encode("utf-16-le"), "is not a text file"),
        (b"\x89PNG\r\n\x1a\n\0\0\0", "is not a text file"),
    ],
)
def test_lists_that_are_no_text(tmp_path, content, message):
    path = tmp_path / "list.txt"
    path.write_bytes(content)
    with pytest.raises(SourceError, match=message):
        list_photos(path)


@pytest.mark.parametrize(
    ("encoding", "declared"), [("utf-16", None), ("latin-1", "latin-1"), ("utf-16-le", "utf-16-le")]
)
def test_lists_in_other_encodings(tmp_path, encoding, declared):
    path = tmp_path / "list.txt"
    path.write_bytes("a.png\ncafé.png\n".encode(encoding))
    assert names(list_photos(path, encoding=declared), tmp_path) == ["a.png", "café.png"]


def test_folders_behind_links_are_searched_once_where_this_is_asked_for(photos, tmp_path):
    other = tmp_path / "other"
    (other / "deep").mkdir(parents=True)
    for name in ("4.png", "deep/5.png"):
        draw_shape("line", 1, filled=True).save(other / name)
    for name, target in {
        "more": other,
        "again": other / "deep",
        "loop": photos,
        "up": photos / "sub",
        ".no": "/",
    }.items():
        (photos / name).symlink_to(target)
    (other / "back").symlink_to(photos)
    assert len(list_folder(photos)) == 4
    listing = list_folder(photos, follow_links=True)
    assert {os.path.relpath(photo.uri, tmp_path): photo.label for photo in listing} == {
        "photos/0.png": None,
        "photos/1 a.png": None,
        "photos/sub/2.png": "sub",
        "photos/sub/3.png": "sub",
        "other/4.png": "more",
        "other/deep/5.png": listing[1].label,
    }
    assert listing.notes == ""
    assert set(listing.roots) >= {photos, other}


def test_sync_sees_what_is_gone_behind_links(photos, tiny_bundle, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    for number in range(4):
        draw_shape("line", number, filled=True).save(other / f"{number}.png")
    (photos / "more").symlink_to(other)
    with closing(Gallery.create(tmp_path / "gallery", tiny_bundle)) as gallery:
        assert sync_photos(gallery, photos, "cpu", follow_links=True).encoded == 8
        (other / "0.png").unlink()
        assert sync_photos(gallery, photos, "cpu").removed == 0
        assert sync_photos(gallery, photos, "cpu", follow_links=True).removed == 1


def test_a_job_hangs_on_nothing_in_its_list(photos, fifo, tiny_bundle, tmp_path):
    (tmp_path / "zero.png").symlink_to("/dev/zero")
    listing = write_list(tmp_path / "list.txt", photos / "0.png", fifo, fifo.as_uri(), "zero.png", "photos")
    with closing(Gallery.create(tmp_path / "gallery", tiny_bundle)) as gallery:
        report = index_photos(gallery, list_photos(listing), "cpu")
    assert (report.encoded, report.rejected) == (1, 3)
    rejects = [json.loads(line) for line in (tmp_path / "gallery" / "rejects.jsonl").read_text().splitlines()]
    assert {Path(reject["file"]).name: reject["reason"].split()[-1] for reject in rejects} == {
        "fifo.png": "FIFO",
        "zero.png": "device",
        "photos": "folder",
    }


@pytest.mark.parametrize("uri", ["memory://bucket/large.png", "large.png"])
def test_no_more_is_read_than_a_picture_may_have(tmp_path, monkeypatch, uri):
    monkeypatch.chdir(tmp_path)
    for module in ("index.sources", "training.base.regular_files"):
        monkeypatch.setattr(f"{module}.MAX_BYTES", 1 << 20)
    fsspec.filesystem("memory").pipe("/bucket/large.png", bytes((1 << 20) + 1))
    Path("large.png").write_bytes(bytes((1 << 20) + 1))
    with pytest.raises(UnusableFile, match="larger than 1 MiB"):
        read_uri(uri)


def zipped(path, names):
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            archive.writestr(name, b"content")
    return f"zip://::file://{path}"


def test_what_a_mac_keeps_beside_files_is_no_photo(tmp_path):
    names = ["a/1.png", "a/._1.png", "__MACOSX/a/._1.png", "__MACOSX/2.png"]
    listing = list_photos(zipped(tmp_path / "all.zip", names))
    assert [photo.uri.split("::")[0] for photo in listing] == ["zip://a/1.png"]
    with zipfile.ZipFile(tmp_path / "all.zip") as archive:
        archive.extractall(tmp_path / "folder")
    listing = list_folder(tmp_path / "folder")
    assert [Path(photo.uri).name for photo in listing] == ["1.png"]
    assert "1 ._ files of a Mac" in listing.notes


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_archives_that_are_damaged(kind, tmp_path):
    (tmp_path / "all").write_bytes(b"PK no archive" * 100)
    with pytest.raises(SourceError, match=rf"{kind}://::file://.*all: \S+"):
        list_photos(f"{kind}://::file://{tmp_path}/all")
