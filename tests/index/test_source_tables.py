"""Tables of photos: metadata of the types that the header or the file says."""

import datetime
import decimal
import math

import pyarrow
import pyarrow.parquet
import pytest

from index.errors import SourceError
from index.sources import list_photos
from training.base.errors import SvdrawError


def csv(folder, text):
    path = folder / "photos.csv"
    path.write_text(text)
    return list_photos(path)


def test_cells_of_csv_are_text(tmp_path):
    [first, second] = csv(tmp_path, "uri,label,code,price,a:b\n1.jpg,007,01234,3.50,x\n2.jpg,,,,\n")
    assert first.uri == str(tmp_path / "1.jpg")
    assert first.label == "007"
    assert first.metadata == {"code": "01234", "price": "3.50", "a:b": "x"}
    assert (second.label, second.metadata) == (None, {})


def test_the_header_asks_for_types(tmp_path):
    header = "path,year:int,price:float,sold:bool,dc:date:int\n"
    [first, second, third] = csv(
        tmp_path, f"{header}1.jpg,1999,1.5,TRUE,007\n2.jpg,-3,2,0,\n3.jpg,,,,9223372036854775807\n"
    )
    assert first.metadata == {"year": 1999, "price": 1.5, "sold": True, "dc:date": 7}
    assert second.metadata == {"year": -3, "price": 2.0, "sold": False}
    assert [type(value) for value in second.metadata.values()] == [int, float, bool]
    assert third.metadata == {"dc:date": 2**63 - 1}


@pytest.mark.parametrize(
    ("header", "cell"),
    [
        *(("x:int", cell) for cell in ("1.0", "one", "1_0", "٣", "9223372036854775808", "9" * 5000)),
        *(("x:float", cell) for cell in ("one", "1_0", "NaN", "Infinity", "-inf", "1e999")),
        *(("x:bool", cell) for cell in ("yes", "2", "t")),
    ],
)
def test_a_value_of_another_type_is_named_with_row_and_column(tmp_path, header, cell):
    good = {"x:int": "1", "x:float": "1", "x:bool": "true"}[header]
    with pytest.raises(SourceError, match=rf"photos.csv, row 2: {header}: .* is n"):
        csv(tmp_path, f"uri,{header}\n1.jpg,{good}\n2.jpg,{cell}\n")


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ("uri,label:int", "column 'label:int' needs the name of a metadata field"),
        ("uri,:int", "column ':int' needs"),
        ("uri,year,year:int", "two columns for the metadata field 'year'"),
        ("uri,year,year", "more than one column 'year'"),
    ],
)
def test_columns_that_cannot_be_told_apart_are_refused(tmp_path, header, message):
    with pytest.raises(SvdrawError, match=message):
        csv(tmp_path, f"{header}\n" + "1" + ",1" * header.count(",") + "\n")


def parquet(folder, columns):
    path = folder / "photos.parquet"
    pyarrow.parquet.write_table(pyarrow.table(columns), path)
    return list_photos(path)


def test_parquet_keeps_its_types_and_labels_are_text(tmp_path):
    columns = {
        "uri": pyarrow.array(["1.jpg"]).dictionary_encode(),
        "label": [7],
        "year": [1999],
        "x:int": ["text"],
        "sizes": [[1.5, 2.5]],
        "place": [{"city": "Oslo", "since": datetime.date(2020, 1, 2)}],
        "taken": [datetime.date(2024, 5, 6)],
        "raw": [b"abc"],
    }
    [photo] = parquet(tmp_path, columns)
    assert (photo.uri, photo.label) == (str(tmp_path / "1.jpg"), "7")
    assert photo.metadata == {
        "year": 1999,
        "x:int": "text",
        "sizes": [1.5, 2.5],
        "place": {"city": "Oslo", "since": "2020-01-02"},
        "taken": "2024-05-06",
        "raw": "abc",
    }


def test_decimals_are_numbers_and_spans_seconds(tmp_path):
    decimals = [decimal.Decimal(text) for text in ("3.50", "3.00", "1e20")]
    columns = {
        "uri": ["1.jpg", "2.jpg", "3.jpg"],
        "price": pyarrow.array(decimals, pyarrow.decimal128(30, 2)),
        "length": [datetime.timedelta(minutes=1, milliseconds=500)] * 3,
    }
    assert [photo.metadata for photo in parquet(tmp_path, columns)] == [
        {"price": price, "length": 60.5} for price in (3.5, 3, 1e20)
    ]


def test_times_are_iso_8601(tmp_path):
    noon = datetime.datetime(2024, 5, 1, 12, tzinfo=datetime.timezone(datetime.timedelta(hours=2)))
    columns = {
        "uri": ["1.jpg"],
        "taken": pyarrow.array([noon], pyarrow.timestamp("ns", "Europe/Oslo")),
        "naive": pyarrow.array([noon.replace(tzinfo=None)], pyarrow.timestamp("ms")),
        "days": [[datetime.date(2024, 5, 1)]],
    }
    [photo] = parquet(tmp_path, columns)
    assert photo.metadata == {
        "taken": "2024-05-01T10:00:00+00:00",
        "naive": "2024-05-01T12:00:00",
        "days": ["2024-05-01"],
    }


def test_json_lines_and_tsv_are_tables_of_photos(tmp_path):
    (tmp_path / "p.jsonl").write_text(
        '{"path": "1.jpg", "label": 7, "tags": ["a", 1]}\n{"path": "2.jpg", "x:int": "1"}\n'
    )
    assert [(photo.label, photo.metadata) for photo in list_photos(tmp_path / "p.jsonl")] == [
        ("7", {"tags": ["a", 1]}),
        (None, {"x:int": "1"}),
    ]
    (tmp_path / "p.tsv").write_text("uri\tyear:int\n1.jpg\t1999\n")
    assert [photo.metadata for photo in list_photos(tmp_path / "p.tsv")] == [{"year": 1999}]
    (tmp_path / "p.json").write_text("[]")
    with pytest.raises(SvdrawError, match=r"call the file \.jsonl"):
        list_photos(tmp_path / "p.json")


def test_columns_that_are_called_as_facts_are_warned_of_once(tmp_path, caplog):
    [photo, _] = csv(tmp_path, "uri,id,width,x\n1.jpg,7,8,9\n2.jpg,7,8,9\n")
    assert photo.metadata == {"id": "7", "width": "8", "x": "9"}
    [record] = caplog.records
    assert '"metadata.id", "metadata.width"' in record.getMessage()
    caplog.clear()
    csv(tmp_path, "uri,label,x\n1.jpg,7,8\n")
    assert not caplog.records


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("nested", [False, True])
def test_parquet_numbers_that_json_cannot_hold_are_refused(tmp_path, value, nested):
    with pytest.raises(SourceError, match=r"row 2: x: .* is not a finite number"):
        parquet(tmp_path, {"uri": ["1.jpg", "2.jpg"], "x": [[1.0], [value]] if nested else [1.0, value]})


def test_a_label_that_is_no_number_is_refused(tmp_path):
    [photo] = parquet(tmp_path, {"uri": ["1.jpg"], "label": [3.0]})
    assert photo.label == "3.0"
    with pytest.raises(SourceError, match=r"row 2: label: nan is not a finite number"):
        parquet(tmp_path, {"uri": ["1.jpg", "2.jpg"], "label": [1.0, math.nan]})


def test_columns_called_color_are_warned_of(tmp_path, caplog):
    csv(tmp_path, "uri,color\n1.jpg,mauve\n")
    assert any('"metadata.color"' in message for message in caplog.messages)
