"""The colours in a catalogue: which there are, and those of photos that were indexed before colours were measured."""

from collections.abc import Mapping
from typing import NamedTuple

from index.gallery.database import Database
from index.gallery.palette import PALETTE
from index.gallery.postings import add_postings, remove_postings

__all__ = ["ColorTable", "Uncolored"]


class Uncolored(NamedTuple):
    """A photo whose colours were never measured."""

    id: int
    uri: str
    sha256: str


class ColorTable:
    """The colours of a catalogue's photos, as they are in the database at the moment.

    Args:
        database: of the catalogue.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def names(self) -> list[str]:
        """Returns the names of the colours that at least one photo has."""
        statement = "SELECT EXISTS (SELECT 1 FROM postings WHERE field = 'color' AND value = ?)"
        return [name for name in PALETTE if self._database.query(statement, (name,))[0][0]]

    def count_missing(self) -> int:
        """Number of photos whose colours were never measured."""
        return int(self._database.query("SELECT count(*) FROM photos WHERE colors IS NULL")[0][0])

    def missing(self, after: int, limit: int) -> list[Uncolored]:
        """Returns at most ``limit`` photos without measured colours with an id above ``after``, in order of id."""
        statement = "SELECT id, uri, sha256 FROM photos WHERE colors IS NULL AND id > ? ORDER BY id LIMIT ?"
        return [Uncolored(*row) for row in self._database.query(statement, (after, limit))]

    def set(self, shares: Mapping[int, int]) -> None:
        """Stores colours by id, as ``color_shares`` measures them, in one durable transaction."""
        with self._database.writing() as connection:
            remove_postings(connection, shares)
            connection.executemany(
                "UPDATE photos SET colors = ? WHERE id = ?", [(each, identifier) for identifier, each in shares.items()]
            )
            add_postings(connection, shares)
