import shutil
from contextlib import closing

import pytest

from index.gallery.directory import Gallery
from index.gallery.uris import is_upload, own_uris, resolve_uri
from index.jobs import index_photos, sync_photos
from index.sources import list_photos
from tests.conftest import draw_shape

SHA256 = "ab" + 31 * "01"
UPLOAD = f"photos/ab/{SHA256}.jpeg"


@pytest.fixture
def gallery(tmp_path):
    """A folder with one upload."""
    (tmp_path / "gallery" / "photos" / "ab").mkdir(parents=True)
    (tmp_path / "gallery" / UPLOAD).write_bytes(b"a photo")
    return tmp_path / "gallery"


def test_what_lies_in_the_gallery_is_relative(gallery, tmp_path):
    link = tmp_path / "link"
    link.symlink_to(gallery)
    for opened in (gallery, link):
        for named in (gallery, link):
            expected = UPLOAD if named in (opened, gallery) else str(link / UPLOAD)
            assert own_uris([str(named / UPLOAD)], opened) == [expected]
    elsewhere = ["/srv/a.jpg", f"{gallery}2/a.jpg", f"{gallery}/../a.jpg", "s3://bucket/photos/a.jpg", str(gallery)]
    assert own_uris(elsewhere, gallery) == elsewhere
    assert own_uris([UPLOAD, f"{gallery}/x/y.png"], gallery) == [UPLOAD, "x/y.png"]


def test_uploads_of_a_gallery_that_was_moved_are_its_own(gallery, tmp_path):
    before = f"/srv/before/{UPLOAD}"
    assert own_uris([before], gallery) == [UPLOAD]
    assert resolve_uri(before, gallery) == str(gallery / UPLOAD)
    other = tmp_path / "other" / UPLOAD
    other.parent.mkdir(parents=True)
    other.write_bytes(b"a photo")  # of another gallery, which is still there
    missing = before.replace(SHA256, "cd" + SHA256[2:]).replace("/ab/", "/cd/")
    for uri in (str(other), missing, "/srv/before/photos/ab/name.jpeg", f"/srv/before/thumbs/ab/{SHA256}.jpeg"):
        assert own_uris([uri], gallery) == [uri]
        assert resolve_uri(uri, gallery) == uri


def test_a_uri_is_read_from_where_the_gallery_is(gallery, monkeypatch):
    assert resolve_uri(UPLOAD, gallery) == str(gallery / UPLOAD)
    monkeypatch.chdir(gallery.parent)
    assert resolve_uri(UPLOAD, gallery.relative_to(gallery.parent)) == str(gallery / UPLOAD)
    for uri in ("/srv/a.jpg", "s3://bucket/a.jpg", "zip://a.jpg::file:///srv/all.zip"):
        assert resolve_uri(uri, gallery) == uri


@pytest.mark.parametrize(
    "uri",
    [
        "photos/mine.jpg",
        "photos/ab/mine.jpg",
        f"photos/cd/{SHA256}.jpeg",
        f"/{UPLOAD}",
        f"x/{UPLOAD}",
        f"photos/../ab/{SHA256}.jpeg",
        "",
    ],
)
def test_only_files_under_their_sha256_are_uploads(uri):
    assert is_upload(UPLOAD)
    assert not is_upload(uri)


@pytest.fixture
def with_own_photos(tiny_bundle, tmp_path):
    """A gallery of four photos that lie in its own folder."""
    path = tmp_path / "gallery"
    with closing(Gallery.create(path, tiny_bundle)) as gallery:
        (path / "mine").mkdir()
        for number in range(4):
            draw_shape("circle", number, filled=True).save(path / "mine" / f"{number}.png")
        assert index_photos(gallery, list_photos(path / "mine"), "cpu").encoded == 4
        assert sorted(gallery.catalogue.uris()) == [f"mine/{number}.png" for number in range(4)]
    return path


def test_a_moved_gallery_knows_its_own_photos(with_own_photos, tmp_path):
    moved = shutil.move(with_own_photos, tmp_path / "moved")
    with closing(Gallery.open(moved, write=True)) as gallery:
        report = index_photos(gallery, list_photos(moved / "mine"), "cpu")
        assert (report.unchanged, report.encoded, report.copied) == (4, 0, 0)
        (moved / "mine" / "1.png").unlink()
        report = sync_photos(gallery, moved / "mine", "cpu", allow_removing=30)
        assert (report.unchanged, report.removed) == (3, 1)


def test_a_folder_that_holds_the_gallery_is_followed(with_own_photos):
    (with_own_photos / "mine" / "3.png").unlink()
    with closing(Gallery.open(with_own_photos, write=True)) as gallery:
        report = sync_photos(gallery, with_own_photos.parent, "cpu", allow_removing=30)
        assert (report.unchanged, report.removed) == (3, 1)


@pytest.mark.parametrize("moved", [False, True])
def test_absolute_uris_of_earlier_versions_become_relative(with_own_photos, tmp_path, moved):
    path = with_own_photos
    (path / "photos" / "ab").mkdir(parents=True)
    shutil.copy(path / "mine" / "0.png", path / UPLOAD)
    with closing(Gallery.open(path, write=True)) as gallery:
        photos = gallery.catalogue.page(0, 10)
        old = [str(path / photo.uri) for photo in photos[:2]] + [str(path / UPLOAD), "/srv/elsewhere.png"]
        gallery.catalogue.rename({photo.id: uri for photo, uri in zip(photos, old, strict=True)})
        gallery.catalogue.set_facts({"uris": "absolute"})
        revision = gallery.catalogue.revision
    if moved:
        path = shutil.move(path, tmp_path / "moved")
    with closing(Gallery.open(path)) as gallery:  # readable before anybody wrote to it
        assert resolve_uri(gallery.catalogue.page(2, 1)[0].uri, path) == str(path / UPLOAD)
    with closing(Gallery.open(path, write=True)) as gallery:
        with gallery.writing():
            uris = [photo.uri for photo in gallery.catalogue.page(0, 10)]
        assert uris[2:] == [UPLOAD, "/srv/elsewhere.png"]
        assert uris[:2] == (old[:2] if moved else ["mine/0.png", "mine/1.png"])
        assert gallery.catalogue.revision == revision
        assert gallery.problems() == []


def test_two_names_of_one_file_stay_two_photos(with_own_photos):
    with closing(Gallery.open(with_own_photos, write=True)) as gallery:
        gallery.catalogue.rename({1: str(with_own_photos / "mine" / "1.png")})
        gallery.catalogue.set_facts({"uris": "absolute"})
        with gallery.writing():
            uris = {photo.id: photo.uri for photo in gallery.catalogue.page(0, 10)}
        assert uris[1] == str(with_own_photos / "mine" / "1.png")
        assert uris[2] == "mine/1.png"
