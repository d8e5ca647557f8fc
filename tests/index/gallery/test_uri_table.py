from contextlib import closing

import numpy as np
import pytest

from index.gallery.catalogue import Catalogue
from index.gallery.photos import NewPhoto
from index.gallery.uris import known_uris


@pytest.fixture
def catalogue(tmp_path):
    """More photos than a page of the table has; one was removed."""
    with closing(Catalogue(tmp_path / "catalogue.sqlite", create=True)) as catalogue:
        vector = np.ones(4, np.float32)
        uris = [f"/srv/{number}.png" for number in range(9000)]
        catalogue.add([NewPhoto(uri, uri, 1, None, 1, 1, None, {}, vector) for uri in uris])
        catalogue.remove([5000])
        yield catalogue


def test_it_is_read_like_a_dictionary(catalogue):
    table = catalogue.uris()
    expected = {f"/srv/{number}.png": number + 1 for number in range(9000) if number != 4999}
    assert len(table) == 8999
    assert list(table) == list(expected)
    assert list(table.items()) == list(expected.items())
    assert (table["/srv/17.png"], table.get("/srv/4999.png"), table.get("\udcff")) == (18, None, None)
    assert "/srv/8999.png" in table
    assert table == expected


def test_it_shows_what_changes(catalogue):
    table = catalogue.uris()
    pairs = iter(table.items())
    assert next(pairs) == ("/srv/0.png", 1)
    catalogue.rename({1: "/srv/x.png", 8000: "/srv/y.png"})
    assert dict(pairs)["/srv/y.png"] == 8000
    assert "/srv/0.png" not in table
    assert next(iter(table)) == "/srv/x.png"


def test_spellings_are_found_without_a_list_of_the_others(catalogue, tmp_path):
    catalogue.rename({3: "/srv/z/../2.png", 4: f"{tmp_path}/3.png"})
    given = ["/srv/1.png", "/srv/2.png", "/srv/new.png", f"{tmp_path}/3.png", "3.png"]
    expected = ["/srv/1.png", "/srv/z/../2.png", "/srv/new.png", f"{tmp_path}/3.png", f"{tmp_path}/3.png"]
    for known in (catalogue.uris(), dict(catalogue.uris())):
        assert known_uris(given, known, tmp_path) == expected
