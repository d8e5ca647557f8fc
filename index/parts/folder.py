"""A folder of parts on any storage that fsspec opens. A part is there as a whole, or not at all."""

import hashlib
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import PurePosixPath
from typing import Any

import fsspec
import pyarrow as pa
from fsspec.core import url_to_fs
from pyarrow import parquet

from index.errors import ModelMismatch, PartsError
from index.parts.schema import PartsFacts, facts_of

__all__ = ["PartsFolder", "part_name"]

_SUFFIX = ".parquet"
_ROWS = 1024  # in memory at once


def part_name(uris: Iterable[str]) -> str:
    """The name of the part with these photos, by which a job that writes it twice has it once."""
    digest = hashlib.sha256("\0".join(uris).encode()).hexdigest()
    return f"part-{digest[:24]}{_SUFFIX}"


class PartsFolder:
    """A folder of parts.

    Args:
        uri: a path, or a URI of any storage that fsspec knows.

    Raises:
        PartsError: if there is no such storage.
    """

    def __init__(self, uri: str) -> None:
        self.uri = uri
        try:
            storage, root = url_to_fs(uri)
        except (ImportError, ValueError, OSError) as error:
            raise PartsError(f"{uri}: {error}") from error
        self._storage: fsspec.AbstractFileSystem = storage
        self._root: str = root.rstrip("/")

    def names(self) -> list[str]:
        """Names of the parts, in order; none if there is no such folder.

        Raises:
            PartsError: if the folder cannot be listed.
        """
        with self._explaining(""):
            self._storage.invalidate_cache()
            if not self._storage.exists(self._root):
                return []
            found = (PurePosixPath(path).name for path in self._storage.ls(self._root, detail=False))
            return sorted(name for name in found if name.endswith(_SUFFIX) and not name.startswith((".", "_")))

    def empty(self) -> PartsError:
        """The error that there are no parts."""
        return PartsError(f"{self.uri} holds no parts; `svdraw index embed` and `svdraw index export` write some")

    def write(self, name: str, table: pa.Table) -> None:
        """Writes a part, which is seen under its name only when it is whole.

        Raises:
            PartsError: if it cannot be written.
        """
        temporary = self._path(f".{name}.{uuid.uuid4().hex}")
        with self._explaining(name):
            self._storage.makedirs(self._root, exist_ok=True)
            try:
                with self._storage.open(temporary, "wb") as file:
                    parquet.write_table(table, file)
                self._storage.mv(temporary, self._path(name))
            finally:
                if self._storage.exists(temporary):
                    self._storage.rm(temporary)

    def facts(self, name: str) -> PartsFacts:
        """What is true of all rows of a part.

        Raises:
            PartsError: if it is cut off, or no part.
        """
        with self._opened(name) as file:
            return facts_of(file.schema_arrow, self._shown(name))

    def check(self, expected: PartsFacts) -> list[str]:
        """Checks that the vectors of all parts are of one model; returns the names of the parts.

        Raises:
            ModelMismatch: if those of a part are of another model, or in another precision.
            PartsError: if a part is cut off, or has vectors of another size.
        """
        names = self.names()
        for name in names:
            facts = self.facts(name)
            if facts.model != expected.model:
                raise ModelMismatch(
                    f"{self._shown(name)} holds vectors of another model or other views ({facts.model[:12]}, "
                    f"not {expected.model[:12]}); vectors of two models cannot be mixed"
                )
            if facts.dim != expected.dim:
                raise PartsError(f"{self._shown(name)} holds vectors of {facts.dim} dimensions, not {expected.dim}")
            if facts.precision != expected.precision:
                raise ModelMismatch(
                    f"{self._shown(name)} holds vectors in {facts.precision[:12]}, not in {expected.precision[:12]}; "
                    "vectors of two precisions cannot be mixed"
                )
        return names

    def uris(self) -> set[str]:
        """URIs of all rows of all parts, those that could not be used included."""
        return {
            uri for name in self.names() for batch in self.batches(name, ["uri"]) for uri in batch["uri"].to_pylist()
        }

    def batches(self, name: str, columns: list[str] | None = None) -> Iterator[pa.RecordBatch]:
        """Yields the rows of a part, some at a time.

        Args:
            name: of the part.
            columns: to read; all when omitted.

        Raises:
            PartsError: if it cannot be read to its end.
        """
        with self._opened(name) as file:
            rows = file.iter_batches(_ROWS, columns=columns)
            while True:
                with self._explaining(name):
                    batch = next(rows, None)
                if batch is None:
                    return
                yield batch

    @contextmanager
    def _opened(self, name: str) -> Iterator[parquet.ParquetFile]:
        with self._explaining(name):
            stream = self._storage.open(self._path(name), "rb")
        with stream:
            with self._explaining(name):
                file = parquet.ParquetFile(stream)
            yield file

    @contextmanager
    def _explaining(self, name: str) -> Iterator[None]:
        problems: tuple[Any, ...] = (pa.ArrowException, OSError, ValueError)
        try:
            yield
        except pa.ArrowInvalid as error:
            raise PartsError(
                f"{self._shown(name)} is cut off, or no Parquet file ({_first_line(error)}); remove it and run the job "
                "that wrote it again"
            ) from error
        except problems as error:
            raise PartsError(f"{self._shown(name)}: {_first_line(error)}") from error

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}"

    def _shown(self, name: str) -> str:
        return f"{self.uri.rstrip('/')}/{name}" if name else self.uri


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]
