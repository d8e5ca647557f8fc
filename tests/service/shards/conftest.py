import shutil
from contextlib import closing
from pathlib import Path

import pytest

from index.gallery.directory import Gallery
from index.gallery.publishing import SHARED_ORDER
from index.parts.embedding import embed_photos, facts_of_model
from index.parts.importing import rows_of_parts
from index.shards.building import build_shards
from index.shards.layout import shard_folder
from index.sources import list_photos

SHARDS = 3


def open_shard(root: Path, shard: int) -> Gallery:
    return Gallery.open(shard_folder(root, shard))


def ids_of(root: Path) -> dict[int, str]:
    """URIs of the photos by their ids among all shards, in order of id."""
    found = {}
    for shard in range(SHARDS):
        with closing(open_shard(root, shard)) as gallery:
            uris = gallery.catalogue.uris()
            found |= {identifier * SHARDS + shard: uri for uri, identifier in uris.items()}
    return dict(sorted(found.items()))


@pytest.fixture(scope="session")
def collection(tiny_bundle, shapes, tmp_path_factory):
    """A folder with ``shards`` and a ``single`` gallery of the same photos, in the same order of ids and coordinates.

    Two photos are there twice.
    """
    root = tmp_path_factory.mktemp("collection")
    photos = Path(shutil.copytree(shapes / "photo", root / "photos"))
    for name in ("circle-1", "circle-2"):
        shutil.copyfile(photos / "circle" / f"{name}.png", photos / "square" / f"{name}.png")
    parts = str(root / "parts")
    embed_photos(list_photos(photos), tiny_bundle, parts, "cpu")
    build_shards(root / "shards", tiny_bundle, parts, SHARDS, filterable=["label"])
    with closing(Gallery.create(root / "single", tiny_bundle)) as gallery:
        shutil.copyfile(root / "shards" / SHARED_ORDER, root / "single" / SHARED_ORDER)
        gallery.configure(None, None, neighbours=0)
        [rows] = rows_of_parts(parts, facts_of_model(tiny_bundle))
        by_uri = {photo.uri: photo for photo in rows.photos}
        with gallery.writing():
            gallery.catalogue.add([by_uri[uri] for uri in ids_of(root / "shards").values()])
        gallery.publish()
    return root


@pytest.fixture
def own_shards(collection, tmp_path):
    """A copy of the shards to change."""
    return shutil.copytree(collection / "shards", tmp_path / "shards")
