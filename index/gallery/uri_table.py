"""The ids of a catalogue's photos by URI, looked up in the database: in memory they would take 250 bytes a photo."""

from collections.abc import ItemsView, Iterator, Mapping

from index.gallery.database import Database
from index.gallery.uris import is_text

__all__ = ["UriTable"]

_PAGE = 4096  # URIs in memory at once


class UriTable(Mapping[str, int]):
    """Ids by URI, in order of id, as they are in the database at the moment.

    Args:
        database: of the catalogue.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def __getitem__(self, uri: str) -> int:
        rows = self._database.query("SELECT id FROM photos WHERE uri = ?", (uri,)) if is_text(uri) else []
        if not rows:
            raise KeyError(uri)
        return int(rows[0][0])

    def __iter__(self) -> Iterator[str]:
        return (uri for uri, _ in self.items())

    def __len__(self) -> int:
        return int(self._database.query("SELECT count(*) FROM photos")[0][0])

    def items(self) -> ItemsView[str, int]:
        """The pairs of URI and id, read in pages, so that writers are not held up."""
        return _Items(self)

    def pairs(self) -> Iterator[tuple[str, int]]:
        """Yields the pairs of URI and id."""
        last, statement = -1, "SELECT uri, id FROM photos WHERE id > ? ORDER BY id LIMIT ?"
        while rows := self._database.query(statement, (last, _PAGE)):
            yield from rows
            last = rows[-1][1]


class _Items(ItemsView[str, int]):
    _mapping: UriTable

    def __iter__(self) -> Iterator[tuple[str, int]]:
        return self._mapping.pairs()
