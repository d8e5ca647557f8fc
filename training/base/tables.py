"""Reading CSV and Parquet tables."""

from pathlib import Path
from typing import TYPE_CHECKING

from training.base.errors import DataError

if TYPE_CHECKING:
    import pyarrow

__all__ = ["TABLE_SUFFIXES", "read_table"]

TABLE_SUFFIXES = frozenset({".csv", ".parquet"})


def read_table(path: Path) -> "pyarrow.Table":
    """Reads a whole table, its format told by the suffix.

    Raises:
        DataError: if the file is missing or is no such table.
    """
    import pyarrow.csv
    import pyarrow.parquet

    read = pyarrow.csv.read_csv if path.suffix.lower() == ".csv" else pyarrow.parquet.read_table
    try:
        return read(path)
    except FileNotFoundError as error:
        raise DataError(f"{path} does not exist") from error
    except pyarrow.ArrowException as error:
        raise DataError(f"{path} cannot be read as a table: {str(error).splitlines()[0]}") from error
