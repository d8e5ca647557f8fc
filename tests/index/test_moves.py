"""Photos whose files or folders have moved keep their ids, labels and metadata."""

import shutil
from contextlib import closing

import pytest

from index.__main__ import INDEX
from index.errors import GalleryError
from index.gallery.directory import Gallery
from index.jobs import index_photos, sync_photos
from index.moves import relocate
from index.sources import list_photos
from tests.conftest import draw_shape
from training.base.command_line import run_command


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    for number in range(6):
        (folder / "abc"[number % 3]).mkdir(parents=True, exist_ok=True)
        draw_shape("circle", number, filled=True).save(folder / "abc"[number % 3] / f"{number}.png")
    return folder


@pytest.fixture
def gallery(photos, tiny_bundle, tmp_path):
    """A gallery of six photos, each with metadata of its own."""
    with closing(Gallery.create(tmp_path / "gallery", tiny_bundle)) as gallery:
        index_photos(gallery, list_photos(photos), "cpu")
        gallery.catalogue.describe({number: (f"label {number}", {"n": number}) for number in range(1, 7)})
        yield gallery


def known(gallery, top):
    """Names, labels and metadata by id."""
    return {
        photo.id: (photo.uri.removeprefix(f"{top}/"), photo.label, photo.metadata)
        for photo in gallery.catalogue.page(0, 99)
    }


def job(kind, gallery, photos):
    if kind == "sync":
        return sync_photos(gallery, photos, "cpu")
    if kind == "list":
        listing = photos.parent / "list.txt"
        listing.write_text("".join(f"{file}\n" for file in photos.rglob("*.png")))
        return index_photos(gallery, list_photos(listing), "cpu")
    return index_photos(gallery, list_photos(photos), "cpu")


@pytest.mark.parametrize("kind", ["build", "sync", "list"])
def test_a_file_that_moved_within_its_folder_keeps_its_id(gallery, photos, kind):
    before = known(gallery, photos)
    (photos / "d").mkdir()
    for number in range(4):
        [file] = photos.rglob(f"{number}.png")
        file.rename(photos / "d" / f"new {number}.png")
    report = job(kind, gallery, photos)
    assert (len(report.moved), report.encoded, report.copied, report.removed) == (4, 0, 0, 0)
    assert "4 found under another name" in str(report)
    after = known(gallery, photos)
    assert {identifier: facts[1:] for identifier, facts in after.items()} == {
        identifier: facts[1:] for identifier, facts in before.items()
    }
    assert sorted(facts[0] for facts in after.values())[2:] == [f"d/new {number}.png" for number in range(4)]
    assert gallery.problems() == []
    assert job(kind, gallery, photos).unchanged == 6


def test_a_copy_is_another_photo(gallery, photos):
    (photos / "d").mkdir()
    shutil.copy(photos / "a" / "0.png", photos / "d" / "0.png")
    report = index_photos(gallery, list_photos(photos), "cpu")
    assert (report.moved, report.copied) == ([], 1)
    assert len(known(gallery, photos)) == 7


def test_of_identical_files_the_one_of_the_same_name_has_moved(gallery, photos):
    (photos / "a" / "x.png").write_bytes((photos / "a" / "0.png").read_bytes())
    index_photos(gallery, list_photos(photos), "cpu")
    before = {facts[0]: identifier for identifier, facts in known(gallery, photos).items()}
    (photos / "d").mkdir()
    for name in ("x.png", "0.png"):
        (photos / "a" / name).rename(photos / "d" / name)
    assert len(index_photos(gallery, list_photos(photos), "cpu").moved) == 2
    after = {facts[0]: identifier for identifier, facts in known(gallery, photos).items()}
    assert (after["d/x.png"], after["d/0.png"]) == (before["a/x.png"], before["a/0.png"])


def test_what_is_gone_from_elsewhere_has_not_moved_here(gallery, photos, tmp_path):
    other = tmp_path / "other"
    photos.rename(other)
    report = index_photos(gallery, list_photos(other), "cpu")
    assert (report.moved, report.copied) == ([], 6)


def test_a_table_describes_what_has_moved(gallery, photos):
    (photos / "a" / "0.png").rename(photos / "a" / "new.png")
    (photos / "table.csv").write_text("uri,label,year:int\na/new.png,,1999\n")
    index_photos(gallery, list_photos(photos / "table.csv"), "cpu")
    names = {facts[0]: facts[1:] for facts in known(gallery, photos).values()}
    [(label, metadata)] = [facts for name, facts in names.items() if name == "a/new.png"]
    assert label.startswith("label ")
    assert metadata == {"n": int(label.split()[1]), "year": 1999}


@pytest.mark.parametrize("spelling", ["plain", "slash", "relative", "URI", "link"])
def test_a_folder_that_moved(gallery, photos, tmp_path, monkeypatch, spelling):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "link").symlink_to(tmp_path)
    before = known(gallery, photos)
    old, new = photos / "a", tmp_path / "else where"
    old.rename(new)
    names = {
        "plain": str,
        "slash": lambda path: f"{path}/",
        "relative": lambda path: f"{path.relative_to(tmp_path)}",
        "URI": lambda path: path.as_uri(),
        "link": lambda path: f"{tmp_path}/link/{path.relative_to(tmp_path)}",
    }
    call = names[spelling]
    assert relocate(gallery, call(old), call(new), dry_run=True) == (plan := relocate(gallery, call(old), call(new)))
    assert (len(plan.uris), plan.missing, plan.taken) == (2, 0, 0)
    assert known(gallery, photos) == {
        identifier: (name.replace("a/", f"{new}/"), *facts) for identifier, (name, *facts) in before.items()
    }
    assert gallery.problems() == []
    assert index_photos(gallery, list_photos(new), "cpu").unchanged == 2


@pytest.mark.parametrize("inwards", [True, False])
def test_a_folder_that_moved_into_or_out_of_itself(gallery, photos, inwards):
    # a/0.png becomes a/a/0.png, whose old name is that of another photo.
    with gallery.writing():
        names = [f"{photos}/x{'/a' * depth}/0.png" for depth in range(1, 7)]
        gallery.catalogue.rename(dict(zip(range(1, 7), names if inwards else reversed(names), strict=True)))
    old, new = (f"{photos}/x", f"{photos}/x/a") if inwards else (f"{photos}/x/a", f"{photos}/x")
    for depth in range(8):
        (photos / ("x" + "/a" * depth)).mkdir()
        (photos / ("x" + "/a" * depth) / "0.png").touch()
    before = {identifier: facts[0] for identifier, facts in known(gallery, photos).items()}
    plan = relocate(gallery, old, new)
    assert (len(plan.uris), plan.taken) == (6, 0)
    step = len("/a") if inwards else -len("/a")
    assert {identifier: len(facts[0]) for identifier, facts in known(gallery, photos).items()} == {
        identifier: len(name) + step for identifier, name in before.items()
    }


def test_photos_that_are_there_already_stay_two(gallery, photos):
    (photos / "b").rename(photos / "z")
    with gallery.writing():
        known_id = gallery.catalogue.uris()[f"{photos}/a/0.png"]
        gallery.catalogue.rename({known_id: f"{photos}/z/1.png"})
    plan = relocate(gallery, f"{photos}/b", f"{photos}/z")
    assert (len(plan.uris), plan.taken) == (1, 1)
    assert "1 stay" in str(plan)


@pytest.mark.parametrize("there", [True, False])
def test_nothing_to_relocate(gallery, photos, tmp_path, there):
    before = known(gallery, photos)
    message = "has no photo below" if there else "none of the 6 photos below .* has its file below"
    with pytest.raises(GalleryError, match=message):
        relocate(gallery, f"{photos}/a/0" if there else str(photos), str(tmp_path / "new"))
    assert known(gallery, photos) == before


def test_remote_photos_move_too(gallery):
    with gallery.writing():
        gallery.catalogue.rename({1: "s3://old/x/a b.png", 2: "s3://old/xy/b.png"})
    plan = relocate(gallery, "s3://old/x/", "gs://new/y")
    assert plan.uris == {1: "gs://new/y/a b.png"}


def test_the_command(gallery, photos, tmp_path, capsys):
    (photos / "a").rename(tmp_path / "new")
    options = ["relocate", f"--gallery={gallery.path}", f"--old={photos}/a", f"--new={tmp_path}/new"]
    for extra, said in (["--dry-run"], "would relocate 2 photos, such as"), ([], "relocated 2 photos, such as"):
        assert run_command(INDEX, [*options, *extra]) == 0
        assert said in capsys.readouterr().out
    assert run_command(INDEX, options) != 0
    assert "has no photo below" in capsys.readouterr().err
