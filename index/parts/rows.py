"""Rows of parts as photos of a catalogue, and back, with one clear error for whatever is wrong with a row."""

import json
import re
from collections.abc import Mapping
from typing import Any, NamedTuple, NoReturn

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from index.errors import PartsError
from index.gallery.photos import NewPhoto
from index.parts.schema import PartsFacts, schema_of

__all__ = ["Rejected", "Rows", "rows_of", "table_of"]

_SHA256 = re.compile("[0-9a-f]{64}")


class Rejected(NamedTuple):
    """A photo that could not be used, and why."""

    uri: str
    reason: str


class Rows(NamedTuple):
    """Rows of a part: photos, and those that could not be used."""

    photos: list[NewPhoto]
    rejected: list[Rejected]


def table_of(facts: PartsFacts, rows: Rows) -> pa.Table:
    """Makes the table of a part."""
    schema = schema_of(facts)
    photos, count = rows.photos, len(rows.rejected)
    columns: dict[str, Any] = {
        name: pa.array([getattr(photo, name) for photo in photos], schema.field(name).type)
        for name in ("uri", "sha256", "bytes", "modified", "width", "height", "label", "colors")
    }
    vectors = np.array([photo.vector for photo in photos], np.float32).reshape(-1)
    columns["metadata"] = pa.array([json.dumps(photo.metadata) for photo in photos], pa.string())
    columns["vector"] = pa.FixedSizeListArray.from_arrays(pa.array(vectors, pa.float32()), facts.dim)
    columns["reason"] = pa.nulls(len(photos), pa.string())
    nothing: dict[str, Any] = {field.name: pa.nulls(count, field.type) for field in schema}
    nothing |= {
        "uri": pa.array([each.uri for each in rows.rejected], pa.string()),
        "reason": pa.array([each.reason for each in rows.rejected], pa.string()),
    }
    return pa.concat_tables([pa.table(each, schema=schema) for each in (columns, nothing)])


def rows_of(batch: pa.RecordBatch, facts: PartsFacts, place: str) -> Rows:
    """Reads rows of a part.

    Args:
        batch: the rows.
        facts: what is true of all of them.
        place: where they are, for messages.

    Raises:
        PartsError: if a row is not as it must be; the message names its photo.
    """
    schema = schema_of(facts)
    columns = [field for field in schema if field.name in batch.schema.names]
    try:
        cells = {field.name: batch.column(field.name).cast(field.type) for field in columns}
    except (pa.ArrowException, ValueError) as error:
        raise PartsError(f"{place}: {str(error).splitlines()[0]}") from error
    vectors = cells.pop("vector")
    rejected, photos = list[Rejected](), list[NewPhoto]()
    coordinates = iter(_coordinates(vectors, facts.dim))
    for is_there, values in zip(vectors.is_valid().to_pylist(), pa.table(cells).to_pylist(), strict=True):
        vector = next(coordinates) if is_there else None
        uri = _uri(values["uri"], place)
        if values.get("reason") is not None:
            rejected.append(Rejected(uri, values["reason"]))
        elif vector is None:
            raise PartsError(f"{place}: {uri} has neither a vector nor a reason why there is none")
        else:
            photos.append(_photo(uri, values, vector, place))
    return Rows(photos, rejected)


def _coordinates(vectors: pa.Array, dim: int) -> NDArray[np.float32]:
    """The vectors that are there, ``(n, dim)``; a coordinate that is missing is not a number."""
    found: NDArray[np.float32] = vectors.drop_null().flatten().to_numpy(zero_copy_only=False).reshape(-1, dim)
    return found


def _uri(value: Any, place: str) -> str:
    if not value or "\0" in value or not ("://" in value or value.startswith("/")):
        raise PartsError(f"{place}: {value!r} is neither a URI nor an absolute path")
    return str(value)


def _photo(uri: str, values: Mapping[str, Any], vector: NDArray[np.float32], place: str) -> NewPhoto:
    def fault(reason: str) -> PartsError:
        return PartsError(f"{place}: {uri} {reason}")

    if not np.isfinite(vector).all():
        raise fault("has a vector that is not finite; remove the part and run the job that wrote it again")
    if not _SHA256.fullmatch(values["sha256"] or ""):
        raise fault("has no SHA-256 in hexadecimal")
    if lacking := [name for name in ("bytes", "width", "height") if (values[name] or 0) <= 0]:
        raise fault(f"has no {lacking[0]}")
    try:
        metadata = json.loads(values.get("metadata") or "{}", parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise fault(f"has metadata that are not JSON: {error}") from error
    if not isinstance(metadata, dict):
        raise fault("has metadata that are not a JSON object")
    size = (values["bytes"], values.get("modified"), values["width"], values["height"])
    return NewPhoto(uri, values["sha256"], *size, values.get("label"), metadata, vector, values.get("colors"))


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no number that JSON knows")
