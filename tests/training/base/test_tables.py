"""Tables: what is in a cell arrives unchanged, and what is wrong with a row is said with its number."""

import datetime
import sys

import pyarrow
import pyarrow.parquet
import pytest

from training.base.errors import DataError
from training.base.tables import as_text, open_table, parse_number


def read(path):
    with open_table(path) as table:
        return table.columns, list(table.rows)


@pytest.fixture
def written(tmp_path):
    def write(content):
        path = tmp_path / "table.csv"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


def test_cells_are_text_as_they_stand(written):
    columns, rows = read(written('a,b, c\n007,1e3,true\n" x ","1,5","two\nlines"\n, ,"say ""yes"""\n'))
    assert columns == ("a", "b", " c")
    assert rows == [
        (1, {"a": "007", "b": "1e3", " c": "true"}),
        (2, {"a": " x ", "b": "1,5", " c": "two\nlines"}),
        (3, {"b": " ", " c": 'say "yes"'}),  # an empty cell is no cell
    ]


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
def test_marks_and_ends_of_lines_of_every_program(written, mark, end):
    assert read(written(mark + end.join(["naïve,b".encode(), b"1,2", b"", "é,".encode()]))) == (
        ("naïve", "b"),
        [(1, {"naïve": "1", "b": "2"}), (2, {"naïve": "é"})],
    )


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "is empty; its first line must name the columns"),
        ("a,b\n1,2\n1,2,3\n", "row 2: 3 cells, but the header names 2 columns"),
        ("a,b\n1\n", "row 1: 1 cells, but"),
        ('a,b\n1,2\n1,"open\n', "row 2: unexpected end of data; is a quotation mark left open"),
        ('a,b\n1,"shut"x\n', "row 1: .*expected after"),
        ("a,b\n1,2\n" + "x" * 200_000 + ",2\n", "row 2: field larger than field limit"),
        ("a,b\n1,2\n1,\0\n", "row 2: holds a NUL"),
        (b"a,b\n1,2\n\x81,2\n", "row 2: not text in cp1252; save the table in UTF-8"),
        (b"\x81,b\n1,2\n", "the header: not text in cp1252"),
        ("a,b\n1,2\n".encode("utf-16")[:-1], "row 1: not text in utf-16"),
        ("a,b\n1,2\n".encode("utf-16-be"), "the header: holds a NUL"),
        ("a,b,a\n1,2,3\n", "more than one column 'a'"),
    ],
)
def test_what_is_wrong_is_said_in_one_line_with_the_row(written, content, message):
    with pytest.raises(DataError, match=message) as caught:
        read(written(content))
    assert "\n" not in str(caught.value)
    assert "table.csv" in str(caught.value)


def test_undecodable_bytes_far_down_name_their_row(written):
    content = b"a,b\n" + b"1,2\n" * 20_000 + b"\x81,2\n" + b"1,2\n" * 20_000
    with pytest.raises(DataError, match="row 20001: not text in cp1252"):
        read(written(content))


def test_rows_are_read_as_they_are_asked_for(written):
    with open_table(written("a,b\n1,2\n1,2,3\n")) as table:
        assert next(table.rows) == (1, {"a": "1", "b": "2"})
        with pytest.raises(DataError, match="row 2"):
            next(table.rows)


@pytest.mark.parametrize(
    ("encoding", "declared", "warns"),
    [
        ("latin-1", None, True),
        ("cp1252", None, True),
        ("utf-16", None, False),
        ("utf-8-sig", None, False),
        ("utf-8-sig", "utf-8", False),
        ("cp437", "cp437", False),
        ("utf-16-be", "utf-16-be", False),
    ],
)
def test_letters_are_those_that_were_meant(written, caplog, encoding, declared, warns):
    text = "name,b\n" + "x,2\n" * 300_000 + "café,é\n" * 3
    path = written(text.encode(encoding))
    with open_table(path, declared) as table:
        assert table.columns == ("name", "b")
        assert [row for _, row in table.rows][-1] == {"name": "café", "b": "é"}
    warnings = [record.getMessage() for record in caplog.records]
    assert len(warnings) == warns
    assert all("table.csv, line 300002: not UTF-8; the file is read as Windows-1252" in each for each in warnings)


@pytest.mark.parametrize("name", ["klingon", "base64", "rot13"])
def test_an_encoding_that_does_not_exist(written, name):
    with pytest.raises(DataError, match=f"no encoding is called '{name}'"), open_table(written("a\n1\n"), name):
        pass


def test_tabs_separate_the_cells_of_tsv(tmp_path):
    path = tmp_path / "T.TSV"
    path.write_text('a\tb,c\n007\t"1\t2"\n')
    assert read(path) == (("a", "b,c"), [(1, {"a": "007", "b,c": "1\t2"})])


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
@pytest.mark.parametrize("mark", [",", ";", "\t"])
def test_csv_is_separated_as_spreadsheets_do(tmp_path, mark, encoding):
    path = tmp_path / "t.csv"
    path.write_text(f'\nuri{mark}price €\n"a{mark}b"{mark}007\n', encoding=encoding)
    assert read(path) == (("uri", "price €"), [(1, {"uri": f"a{mark}b", "price €": "007"})])


def test_commas_come_before_other_marks(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("a;b,c\td\n1;2,3\t4\n")
    assert read(path) == (("a;b", "c\td"), [(1, {"a;b": "1;2", "c\td": "3\t4"})])


@pytest.mark.parametrize("suffix", ["jsonl", "ndjson"])
def test_json_lines_keep_types_and_may_differ_in_columns(tmp_path, suffix):
    path = tmp_path / f"t.{suffix}"
    path.write_bytes(
        '\ufeff{"a": "007", "b": [1.5]}\r\n\n{"c": {"d": true}, "a": null, "b": ""}\n{"a": "\\\\u0000"}'.encode()
    )
    columns, rows = read(path)
    assert columns == ("a", "b", "c")
    assert rows == [(1, {"a": "007", "b": [1.5]}), (2, {"c": {"d": True}}), (3, {"a": "\\u0000"})]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty; every line must be a JSON object"),
        (b'{"a": 1}\n[1]\n', "row 2: not a JSON object"),
        (b'{"a": 1}\n{"a": \n', "row 2: not JSON"),
        (b'{"a": 1}\n{"a": "\xff"}\n', "row 2: not text in UTF-8"),
        (b'{"a": "\\ud800"}\n', "row 1: not text in UTF-8"),
        (b'{"a": {"b": ["\\u0000"]}}\n', "row 1: holds a NUL"),
        (b'{"a": ' + b"[" * 100_000 + b"\n", "row 1: not JSON"),
        (b'{"a": ' + b"1" * 5000 + b"}\n", "row 1: not JSON"),
    ],
)
def test_what_is_wrong_with_a_line_of_json(tmp_path, content, message):
    path = tmp_path / "t.jsonl"
    path.write_bytes(content)
    with pytest.raises(DataError, match=message) as caught:
        read(path)
    assert "\n" not in str(caught.value)


def test_a_list_in_json_is_refused_with_advice(tmp_path):
    (tmp_path / "t.json").write_text("[{}]")
    with pytest.raises(DataError, match=r"one object a line instead and call the file \.jsonl"):
        read(tmp_path / "t.json")


@pytest.mark.parametrize("name", ["none.csv", "none.parquet", "none.jsonl", "none.tsv"])
def test_a_table_that_is_missing_or_a_folder(tmp_path, name):
    with pytest.raises(DataError, match=f"{name} does not exist"):
        read(tmp_path / name)
    (tmp_path / name).mkdir()
    with pytest.raises(DataError, match=f"{name} cannot be read as a table: .*directory"):
        read(tmp_path / name)


def test_parquet_keeps_types_and_leaves_out_what_is_empty(tmp_path):
    table = pyarrow.table({"a": [1, None, 3], "b": ["x", "", None], "c": [[1.5], None, []]})
    pyarrow.parquet.write_table(table, tmp_path / "t.parquet", row_group_size=2)
    columns, rows = read(tmp_path / "t.parquet")
    assert columns == ("a", "b", "c")
    assert rows == [(1, {"a": 1, "b": "x", "c": [1.5]}), (2, {}), (3, {"a": 3, "c": []})]


def test_times_of_parquet_are_in_utc_whatever_their_unit_and_depth(tmp_path):
    noon = datetime.datetime(2024, 5, 1, 12, tzinfo=datetime.UTC)
    columns = {
        **{
            f"{unit}": pyarrow.array([noon], pyarrow.timestamp(unit, "Europe/Oslo")) for unit in ("s", "ms", "us", "ns")
        },
        "naive": pyarrow.array([1], pyarrow.timestamp("ns")),
        "lists": pyarrow.array([[noon]], pyarrow.list_(pyarrow.timestamp("ns", "-05:00"))),
        "nested": pyarrow.array(
            [{"at": [noon]}], pyarrow.struct({"at": pyarrow.list_(pyarrow.timestamp("ms", "Nowhere"))})
        ),
        "date": pyarrow.array([noon.date()], pyarrow.date32()),
        "time": pyarrow.array([1], pyarrow.time64("ns")),
        "span": pyarrow.array([1_500_000_001], pyarrow.duration("ns")),
    }
    pyarrow.parquet.write_table(pyarrow.table(columns), tmp_path / "t.parquet", store_schema=True)
    [(_, row)] = read(tmp_path / "t.parquet")[1]
    times = [row.pop(name) for name in ("s", "ms", "us", "ns")] + row.pop("lists") + row.pop("nested")["at"]
    assert {as_text(time) for time in times} == {"2024-05-01T12:00:00+00:00"}
    assert row.pop("span") == datetime.timedelta(seconds=1.5)
    assert {name: as_text(value) for name, value in row.items()} == {
        "naive": "1970-01-01T00:00:00",
        "date": "2024-05-01",
        "time": "00:00:00",
    }


def test_a_time_that_no_calendar_has_is_said(tmp_path):
    column = pyarrow.array([2**62], pyarrow.timestamp("us"))
    pyarrow.parquet.write_table(pyarrow.table({"a": column}), tmp_path / "t.parquet")
    with pytest.raises(DataError, match="cannot be read as a table"):
        read(tmp_path / "t.parquet")


def test_damaged_parquet(tmp_path):
    path = tmp_path / "t.parquet"
    not_text = pyarrow.Array.from_buffers(pyarrow.string(), 1, pyarrow.array([b"\xff"], pyarrow.binary()).buffers())
    for table in (pyarrow.table({"a": not_text}), pyarrow.table({"a": ["x" * 100] * 1000})):
        pyarrow.parquet.write_table(table, path)
        if table.num_rows == 1000:
            path.write_bytes(b"PAR1" + b"\xff" * 60 + path.read_bytes()[64:])
        with pytest.raises(DataError, match="cannot be read as a table") as caught:
            read(path)
        assert "\n" not in str(caught.value)
    path.write_bytes(b"half")
    with pytest.raises(DataError, match="cannot be read as a table"):
        read(path)
    pyarrow.parquet.write_table(pyarrow.table([[1], [2]], names=["a", "a"]), path)
    with pytest.raises(DataError, match="more than one column 'a'"):
        read(path)


def test_parquet_without_pyarrow_says_what_to_install(tmp_path, monkeypatch, written):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(DataError, match="pip install pyarrow"):
        read(tmp_path / "t.parquet")
    assert read(written("a\n1\n")) == (("a",), [(1, {"a": "1"})])  # CSV needs none


@pytest.mark.parametrize(("value", "number"), [("1.5", 1.5), (" -2e3 ", -2000.0), (3, 3.0), ("007", 7.0)])
def test_numbers(value, number):
    assert parse_number(value) == number


@pytest.mark.parametrize("value", ["", "x", "1,5", "1_0", "nan", "-inf", "1e999", None, float("nan")])
def test_no_numbers(value):
    with pytest.raises(ValueError, match="is not a"):
        parse_number(value)


def test_times_compare_as_their_texts_do():
    offsets = [datetime.timezone(datetime.timedelta(hours=hours)) for hours in (-5, 0, 9)]
    moments = [
        datetime.datetime(2024, 5, 1, hour, 0, 0, part, zone) for hour in (1, 20) for part in (0, 5) for zone in offsets
    ]
    assert sorted(moments, key=as_text) == sorted(moments)
    assert as_text(datetime.datetime(2024, 5, 1, 12)) == "2024-05-01T12:00:00"
    with pytest.raises(ValueError, match="out of range"):
        as_text(datetime.datetime(1, 1, 1, tzinfo=offsets[2]))


def test_text_of_other_types():
    assert [as_text(value) for value in ("007", 7, b"\xc3\xa9", True)] == ["007", "7", "é", "True"]
    with pytest.raises(ValueError, match="is not UTF-8 text"):
        as_text(b"\xff")
