from pathlib import Path

import pytest

from index.gallery import Gallery
from index.jobs import index_photos
from index.sources import list_photos


@pytest.fixture
def build(tiny_bundle, tmp_path):
    """Builds (or brings up to date) a gallery of a folder and returns its path and the job's report."""

    def build(photos: Path, name: str = "gallery"):
        gallery = Gallery.create(tmp_path / name, tiny_bundle)
        try:
            return gallery.path, index_photos(gallery, list_photos(photos), "cpu")
        finally:
            gallery.close()

    return build
