"""What a part holds: photos with their vectors as rows of a Parquet file, beside those that could not be used.

The schema's metadata say which model made the vectors, under the key ``svdraw`` as JSON. A row has either a vector or,
in ``reason``, why there is none.
"""

from typing import Literal

import pyarrow as pa
from pydantic import BaseModel, ConfigDict, ValidationError

from index.errors import PartsError

__all__ = ["PartsFacts", "facts_of", "schema_of"]

_KEY = b"svdraw"
_NEEDED = frozenset({"uri", "sha256", "bytes", "width", "height", "vector"})


class PartsFacts(BaseModel):
    """What is true of all rows of a part.

    Attributes:
        model: digest of the model whose photo encoder made the vectors.
        dim: number of their coordinates.
        precision: that they were computed in, one of ``BundleManifest.precisions``.
        order: coordinates that they are in: those of the model.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal["svdraw-parts"] = "svdraw-parts"
    version: Literal[1] = 1
    model: str
    dim: int
    precision: str = "fp32"
    order: Literal["model"] = "model"


def schema_of(facts: PartsFacts) -> pa.Schema:
    """The schema of a part.

    ``bytes`` is the size of the photo's file and ``modified`` its time of change in nanoseconds, where it has one;
    ``width`` and ``height`` are in pixels, upright; ``metadata`` is a JSON object; ``colors`` is what
    ``index.gallery.palette.color_shares`` measures; ``vector`` is ``(dim,)``, and null where ``reason`` is not.
    """
    fields = [
        pa.field("uri", pa.string(), nullable=False),
        ("sha256", pa.string()),
        ("bytes", pa.int64()),
        ("modified", pa.int64()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("label", pa.string()),
        ("metadata", pa.string()),
        ("colors", pa.int64()),
        ("vector", pa.list_(pa.float32(), facts.dim)),
        ("reason", pa.string()),
    ]
    return pa.schema(fields, metadata={_KEY: facts.model_dump_json().encode()})


def facts_of(schema: pa.Schema, name: str) -> PartsFacts:
    """Reads what a part's schema says of it.

    Args:
        schema: of the file.
        name: of the file, for messages.

    Raises:
        PartsError: if the file says nothing that this version understands, or lacks a column.
    """
    stated = (schema.metadata or {}).get(_KEY)
    if stated is None:
        raise PartsError(f"{name} does not say which model made its vectors; its schema needs metadata {_KEY.decode()}")
    try:
        facts = PartsFacts.model_validate_json(stated)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise PartsError(f"{name} is of another version of svdraw ({where}: {first['msg']})") from error
    if missing := sorted(_NEEDED - set(schema.names)):
        raise PartsError(f"{name} has no column {missing[0]!r}")
    return facts
