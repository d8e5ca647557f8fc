"""Labels and metadata: what a source states wins, and nothing else is lost."""

from contextlib import closing

import pytest

from index.gallery.directory import Gallery
from index.jobs import index_photos, sync_photos
from index.sources import list_photos
from tests.conftest import draw_shape


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos" / "castle"
    folder.mkdir(parents=True)
    for number in range(3):
        draw_shape("circle", number, filled=True).save(folder / f"{number}.png")
    return folder.parent


@pytest.fixture
def gallery(photos, tiny_bundle, tmp_path):
    """A gallery in which the first two photos were described through the service."""
    with closing(Gallery.create(tmp_path / "gallery", tiny_bundle)) as gallery:
        index_photos(gallery, list_photos(photos), "cpu")
        gallery.catalogue.describe({1: ("palace", {"year": 1900, "place": "Oslo"}), 2: (None, {"year": 1901})})
        yield gallery


def descriptions(gallery):
    return [(photo.label, photo.metadata) for photo in gallery.catalogue.page(0, 9)]


def table(path, text):
    path.write_text(text)
    return list_photos(path)


@pytest.mark.parametrize("changed", [False, True])
@pytest.mark.parametrize("job", ["build", "sync"])
def test_a_folder_takes_nothing_away(gallery, photos, changed, job):
    before = descriptions(gallery)
    if changed:
        for number in range(3):
            draw_shape("line", number, filled=True, size=80).save(photos / "castle" / f"{number}.png")
    draw_shape("square", 1, filled=True).save(photos / "castle" / "3.png")
    report = sync_photos(gallery, photos, "cpu") if job == "sync" else index_photos(gallery, list_photos(photos), "cpu")
    assert (report.unchanged, report.encoded, report.described) == ((0, 4, 0) if changed else (3, 1, 0))
    assert descriptions(gallery) == [*before, ("castle", {})]


@pytest.mark.parametrize("changed", [False, True])
def test_what_a_table_states_wins_and_the_rest_stays(gallery, photos, changed):
    rows = "photos/castle/0.png,fort,1950,\nphotos/castle/1.png,,,red\nphotos/castle/2.png,castle,,\n"
    listing = table(photos.parent / "table.csv", f"uri,label,year:int,colour\n{rows}")
    if changed:
        for number in range(3):
            draw_shape("line", number, filled=True, size=80).save(photos / "castle" / f"{number}.png")
    report = index_photos(gallery, listing, "cpu")
    assert (report.unchanged, report.described) == (0 if changed else 3, 2)
    assert "2 described anew" in str(report)
    assert descriptions(gallery) == [
        ("fort", {"year": 1950, "place": "Oslo"}),
        (None, {"year": 1901, "colour": "red"}),
        ("castle", {}),
    ]
    again = index_photos(gallery, listing, "cpu")
    assert (again.unchanged, again.described) == (3, 0)


def test_a_list_states_no_label(gallery, photos):
    before = descriptions(gallery)
    listing = table(photos.parent / "list.txt", "".join(f"photos/castle/{number}.png\n" for number in range(3)))
    assert index_photos(gallery, listing, "cpu").described == 0
    assert descriptions(gallery) == before


def test_metadata_named_like_a_fact_are_told_of_once(gallery, photos, caplog):
    rows = "".join(f"photos/castle/{number}.png,{number},{number}\n" for number in range(3))
    index_photos(gallery, table(photos.parent / "table.csv", f"uri,width:int,height:int\n{rows}"), "cpu")
    told = [record.getMessage() for record in caplog.records if "metadata." in record.getMessage()]
    assert len(told) == 1
    assert told[0].endswith('"metadata.width", "metadata.height"')
    assert gallery.catalogue.select({"metadata.width": 2}).tolist() == [3]
