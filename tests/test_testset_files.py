"""Files of every format load back what was written; what is wrong in them is reported with file and line, all at once."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from evalft import testset
from evalft.config import TaskConfig
from evalft.errors import UserError

GOOD = b'{"input": "a", "target": "x"}\n'


def load(path: Path, **task: object) -> testset.TestSet:
    return testset.load(TaskConfig.model_validate({"test": str(path), **task}))


def faults(path: Path, **task: object) -> list[str]:
    with pytest.raises(UserError) as error:
        load(path, **task)
    return list(error.value.faults)


def write(folder: Path, name: str, content: bytes | str) -> Path:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


# ---------------------------------------------------------------- one fault each: name, file, line, reason

BAD_ROWS = [
    ("broken JSON", "t.jsonl", GOOD + b'{"input": "a", "target"}\n', 2, "broken JSON: expecting ':' delimiter (column 24)"),
    ("two objects on a line", "t.jsonl", GOOD + b'{"input": "b", "target": "y"} {}\n', 2, "more text after the object"),
    ("not an object", "t.jsonl", GOOD + b'["a", "x"]\n', 2, "is a list, not an object"),
    ("missing column", "t.jsonl", GOOD + b'{"inptu": "b", "target": "y"}\n', 2, "no column 'input' (the row has inptu, target); did"),
    ("null target", "t.jsonl", GOOD + b'{"input": "b", "target": null}\n', 2, "the target is missing (null)"),
    ("empty target", "t.jsonl", GOOD + b'{"input": "b", "target": "  "}\n', 2, "the target is empty"),
    ("empty input", "t.jsonl", GOOD + b'{"input": "", "target": "y"}\n', 2, "the input is empty"),
    ("input of a wrong type", "t.jsonl", GOOD + b'{"input": {"a": 1}, "target": "y"}\n', 2, "the input is an object, not text"),
    ("NaN", "t.jsonl", GOOD + b'{"input": "b", "target": NaN}\n', 2, "NaN is not a JSON value"),
    ("Infinity", "t.jsonl", GOOD + b'{"input": -Infinity, "target": "y"}\n', 2, "-Infinity is not a JSON value"),
    ("number past the floats", "t.jsonl", GOOD + b'{"input": 1e999, "target": "y"}\n', 2, "an infinite number"),
    ("number of 5,000 digits", "t.jsonl", GOOD + b'{"input": ' + b"9" * 5000 + b', "target": "y"}\n', 2, "too many digits"),
    ("nested too deep", "t.jsonl", GOOD + b"[" * 100_000 + b"\n", 2, "nested too deep"),
    ("key given twice", "t.jsonl", GOOD + b'{"input": "b", "input": "c", "target": "y"}\n', 2, "key 'input' is given twice"),
    ("NUL byte", "t.jsonl", GOOD + b'{"input": "b\0", "target": "y"}\n', 2, "holds a NUL byte (byte 42 of the file)"),
    ("escaped NUL", "t.jsonl", GOOD + b'{"input": "b\\u0000", "target": "y"}\n', 2, "the input holds a NUL character"),
    ("half a surrogate", "t.jsonl", GOOD + b'{"input": "\\ud83d", "target": "y"}\n', 2, "half of a surrogate pair (\\ud83d)"),
    ("Latin-1", "t.jsonl", GOOD + '{"input": "café", "target": "y"}\n'.encode("latin-1"), 2, "byte 0xE9 (byte 44 of the file) is not UTF-8"),
    ("one id, two contents", "t.jsonl", b'{"id": 1, "input": "a", "target": "x"}\n{"id": 1, "input": "b", "target": "y"}\n', 2, "id '1' stands at"),
    ("list for a text target", "t.jsonl", b'{"input": "a", "target": ["x"]}\n{"input": "b", "target": "x"}\n', 2, "the target is text; other rows have lists"),
    ("empty label in a list", "t.jsonl", b'{"input": "a", "target": ["x", ""]}\n', 1, "a label is empty"),
    ("object among the labels", "t.jsonl", b'{"input": "a", "target": ["x", {}]}\n', 1, "a label is an object, not text"),
    ("ragged row, short", "t.csv", b"input,target\na,x\nb\n", 3, "has 1 fields where the header has 2"),
    ("ragged row, long", "t.csv", b"input,target\na,x\nb,c,y\n", 3, "has 3 fields where the header has 2"),
    ("empty cell", "t.csv", b"input,target\na,x\nb,\n", 3, "the target is empty"),
    ("quotation mark never closed", "t.csv", b'input,target\na,x\n"b,y\nc,z\n', 3, "opens here and is never closed"),
    ("row of several lines", "t.csv", b'input,target\n"a\nb\nc",x\n"d\ne",\n', 5, "the target is empty"),
    ("Latin-1 in CSV", "t.csv", "input,target\na,x\ncafé,y\n".encode("latin-1"), 3, "byte 0xE9 (byte 20 of the file) is not UTF-8"),
    ("NUL byte in CSV", "t.csv", b"input,target\na,x\nb\0,y\n", 3, "holds a NUL byte"),
    ("broken element of a list", "t.json", b'[\n {"input": "a", "target": "x"},\n {"input": }\n]', 3, "broken JSON: expecting value"),
    ("not an object in a list", "t.json", b'[\n {"input": "a", "target": "x"},\n 7\n]', 3, "is a number, not an object"),
    ("list never closed", "t.json", b'[\n {"input": "a", "target": "x"}\n', 3, "expected a comma or the end of the list"),
    ("text after the list", "t.json", b'[\n {"input": "a", "target": "x"}\n]\nend', 4, "more text after the end"),
    ("list in an object", "t.json", b'{"n": [1],\n "data": [\n {"input": "a"}, {"input": "b",\n "target": "x"}]}', 3, "no column 'target'"),
    ("Latin-1 in JSON", "t.json", '[\n{"input": "café", "target": "y"}]'.encode("latin-1"), 2, "byte 0xE9 (byte 16 of the file) is not UTF-8"),
    ("NUL byte in JSON", "t.json", b'[\n{"input": "\0", "target": "y"}]', 2, "holds a NUL byte"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "content", "line", "reason"), [case[1:] for case in BAD_ROWS], ids=[c[0] for c in BAD_ROWS]
)
def test_a_bad_row_is_named_with_its_line_and_reason(
    tmp_path: Path, name: str, content: bytes, line: int, reason: str
) -> None:
    path = write(tmp_path, name, content)
    (fault,) = faults(path)
    assert fault.startswith(f"{path}:{line}: ")
    assert reason in fault


BAD_FILES = [
    ("empty file", "t.jsonl", b"", "is empty"),
    ("only blank lines", "t.jsonl", b"\n\n", "holds no rows"),
    ("header only", "t.csv", b"input,target\n", "holds no rows"),
    ("empty list", "t.json", b"[]", "holds no rows"),
    ("UTF-16 with mark", "t.csv", "input,target\na,x\n".encode("utf-16"), "iconv -f UTF-16 -t UTF-8"),
    ("UTF-16 without mark", "t.csv", "input,target\na,x\n".encode("utf-16-le"), "iconv -f UTF-16 -t UTF-8"),
    ("column named twice", "t.csv", b"input,target,input\na,x,b\n", "the header names input more than once"),
    ("pretty-printed JSON named .jsonl", "t.jsonl", b'[\n{"input": "a", "target": "x"}\n]\n', "rename it to .json"),
    ("JSON of columns", "t.json", b'{"input": ["a"],\n "target": ["x"]}', "an object with the keys input, target"),
    ("JSON text", "t.json", b'"a"', "holds text, not a list of rows"),
    ("unknown extension", "t.xlsx", b"PK", ".xlsx is not a known format"),
    ("no extension", "data", b"a", "a name without extension is not a known format"),
    ("gzip", "t.jsonl.gz", b"\x1f\x8b", "decompress it"),
    ("not Parquet", "t.parquet", b"PAR1 no", "cannot be read as Parquet"),
]


@pytest.mark.parametrize(("name", "content", "reason"), [case[1:] for case in BAD_FILES], ids=[c[0] for c in BAD_FILES])
def test_a_file_that_cannot_be_used_is_one_line(tmp_path: Path, name: str, content: bytes, reason: str) -> None:
    path = write(tmp_path, name, content)
    (fault,) = faults(path)
    assert fault.startswith(str(path))
    assert reason in fault


def test_all_bad_rows_of_all_files_are_reported_at_once(tmp_path: Path) -> None:
    test = write(tmp_path, "test.jsonl", GOOD + b"{\n" + GOOD + b'{"input": "", "target": ""}\n')
    train = write(tmp_path, "train.csv", b"input,target\nq\n,x\n")
    found = faults(test, train=str(train))
    assert [fault.split(": ")[0] for fault in found] == [
        f"{test}:2",
        f"{test}:4",
        f"{test}:4",
        f"{train}:2",
        f"{train}:3",
    ]


def test_a_long_list_of_faults_is_cut_and_counted(tmp_path: Path) -> None:
    path = write(tmp_path, "t.jsonl", GOOD + b"{\n" * 73)
    found = faults(path)
    assert len(found) == 51
    assert found[0].startswith(f"{path}:2:") and found[49].startswith(f"{path}:51:")
    assert "23 more" in found[50]


def test_missing_files_are_reported_together_and_neighbours_named(tmp_path: Path) -> None:
    write(tmp_path, "tests.jsonl", GOOD)
    first, second = faults(tmp_path / "test.jsonl", train=str(tmp_path / "train.jsonl"))
    assert "test.jsonl: no such file" in first and "tests.jsonl" in first
    assert "train.jsonl: no such file" in second


@pytest.mark.parametrize("path", ["", "x" * 5000, "a\0b"])
def test_impossible_paths_are_user_errors(path: str) -> None:
    with pytest.raises(UserError):
        testset.load(TaskConfig(test=path))


# ---------------------------------------------------------------- accepted, and said


def test_a_byte_order_mark_is_skipped_and_said(tmp_path: Path) -> None:
    for name, content in [("t.csv", b"input,target\na,x\n"), ("t.jsonl", GOOD), ("t.json", b"[" + GOOD + b"]")]:
        loaded = load(write(tmp_path, name, b"\xef\xbb\xbf" + content))
        assert (loaded.test[0].input, loaded.test[0].target) == ("a", "x")
        assert any("byte-order mark" in line for line in loaded.assumed)


def test_crlf_and_line_breaks_in_fields_do_not_shift_lines(tmp_path: Path) -> None:
    path = write(tmp_path, "t.csv", b'input,target\r\n"a\r\nb",x\r\n\r\nc,y\r\n')
    loaded = load(path)
    assert [(row.input, row.target) for row in loaded.test] == [("a\r\nb", "x"), ("c", "y")]
    assert [row.source for row in loaded.test] == [f"{path}:2", f"{path}:5"]


def test_cells_stay_the_text_they_are(tmp_path: Path) -> None:
    loaded = load(write(tmp_path, "t.csv", b"input,target\n007,012\n1e3,1.10\nNA,null\n"))
    assert [(row.input, row.target) for row in loaded.test] == [("007", "012"), ("1e3", "1.10"), ("NA", "null")]


def test_numbers_and_booleans_become_text(tmp_path: Path) -> None:
    rows = [{"input": "a", "target": 1}, {"input": "b", "target": 1.0}, {"input": "c", "target": True}]
    loaded = load(write(tmp_path, "t.jsonl", "\n".join(map(json.dumps, rows))))
    assert [row.target for row in loaded.test] == ["1", "1.0", "true"]


def test_semicolons_separate_columns_where_the_header_has_no_comma(tmp_path: Path) -> None:
    loaded = load(write(tmp_path, "t.csv", 'input;target\na, b;x\n"c;d";y\n'))
    assert [row.input for row in loaded.test] == ["a, b", "c;d"]
    assert any("semicolon" in line for line in loaded.assumed)


def test_tsv_is_read_quoted_or_not_as_its_rows_require(tmp_path: Path) -> None:
    quoted = load(write(tmp_path, "quoted.tsv", 'input\ttarget\n"a\tb"\tx\n'))
    assert quoted.test[0].input == "a\tb"
    plain = load(write(tmp_path, "plain.tsv", 'input\ttarget\n"No!" she said\tx\nb "\ty\n'))
    assert [row.input for row in plain.test] == ['"No!" she said', 'b "']
    assert any("quotation marks are read as text" in line for line in plain.assumed)


def test_a_field_may_be_longer_than_the_csv_module_allows_by_default(tmp_path: Path) -> None:
    text = "long " * 100_000
    assert load(write(tmp_path, "t.csv", f"input,target\n{text},x\n")).test[0].input == text
    assert csv.field_size_limit() < len(text)  # the module's own limit is as it was


def test_a_json_file_may_hold_a_list_a_wrapped_list_or_json_lines(tmp_path: Path) -> None:
    rows = [{"input": "a", "target": "x"}, {"input": "b", "target": "y"}]
    contents = [
        json.dumps(rows, indent=1),
        json.dumps({"version": [1], "rows": rows}),
        "\n".join(map(json.dumps, rows)),
    ]
    loaded = [load(write(tmp_path, f"t{i}.json", content)) for i, content in enumerate(contents)]
    assert {tuple((row.input, row.target) for row in one.test) for one in loaded} == {(("a", "x"), ("b", "y"))}
    assert [row.source.rpartition(":")[2] for row in loaded[0].test] == ["2", "6"]


def test_a_glob_and_a_folder_are_read_in_the_order_of_names(tmp_path: Path) -> None:
    write(tmp_path, "b.csv", "input,target\nb,y\n")
    write(tmp_path, "a.jsonl", GOOD)
    write(tmp_path, "notes.md", "no data")
    for path in (tmp_path, tmp_path / "[ab].*"):
        assert [row.input for row in load(path).test] == ["a", "b"]


def test_a_folder_gives_each_role_its_own_files(tmp_path: Path) -> None:
    write(tmp_path, "test.jsonl", GOOD)
    write(tmp_path, "train.jsonl", b'{"input": "b", "target": "y"}\n')
    loaded = load(tmp_path, train=str(tmp_path))
    assert [row.input for row in loaded.test] == ["a"]
    assert [row.input for row in loaded.train] == ["b"]
    (fault,) = faults(tmp_path, dev=str(tmp_path))
    assert "no dev file" in fault


@pytest.mark.slow
def test_hub_specs_load_a_folder_and_name_its_classes(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    features = datasets.Features(text=datasets.Value("string"), label=datasets.ClassLabel(names=["ham", "spam"]))
    rows = {"text": ["a", "b", "c", "d"], "label": [0, 1, 1, 0]}
    datasets.DatasetDict(test=datasets.Dataset.from_dict(rows, features=features)).save_to_disk(tmp_path / "mail")
    loaded = testset.load(TaskConfig(test=f"hf:{tmp_path}/mail:test"))
    assert [row.target for row in loaded.test] == ["ham", "spam", "spam", "ham"]
    assert any("class names" in line for line in loaded.assumed)
    with pytest.raises(UserError, match="has no split 'nosuch'; it has test"):
        testset.load(TaskConfig(test=f"hf:{tmp_path}/mail:nosuch"))


def test_parquet_values_without_a_json_type_become_text(tmp_path: Path) -> None:
    import datetime
    import decimal

    import pyarrow as pa
    import pyarrow.parquet as pq

    day = datetime.date(2026, 1, 2)
    rows = [{"input": "a", "target": None, "day": day}, {"input": "b", "target": decimal.Decimal("1.50"), "day": day}]
    path = tmp_path / "t.parquet"
    pq.write_table(pa.Table.from_pylist(rows), path)
    (fault,) = faults(path)
    assert fault == f"{path}:1: the target is missing (null)"
    pq.write_table(pa.Table.from_pylist(rows[1:]), path)
    (row,) = load(path).test
    assert (row.target, row.row["day"]) == ("1.50", "2026-01-02")


# ---------------------------------------------------------------- properties

TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1).filter(str.strip)
ROWS = st.lists(
    st.fixed_dictionaries(
        {"input": TEXT, "target": TEXT, "more": st.text(st.characters(exclude_characters="\0", codec="utf-8"))}
    ),
    min_size=1,
)
OPTIONS = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def as_csv(rows: list[dict[str, str]], dialect: str) -> bytes:
    out = io.StringIO(newline="")
    writer = csv.DictWriter(out, fieldnames=list(rows[0]), dialect=dialect)
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue().encode()


def as_parquet(rows: list[dict[str, str]]) -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    out = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), out)
    return out.getvalue()


WRITERS = {
    ".jsonl": lambda rows: "\n".join(json.dumps(row, ensure_ascii=False) for row in rows).encode(),
    ".json": lambda rows: json.dumps(rows, indent=2).encode(),
    ".csv": lambda rows: as_csv(rows, "excel"),
    ".tsv": lambda rows: as_csv(rows, "excel-tab"),
    ".parquet": as_parquet,
}


@pytest.mark.parametrize("extension", WRITERS)
@OPTIONS
@given(rows=ROWS)
def test_what_is_written_loads_back_the_same(tmp_path: Path, extension: str, rows: list[dict[str, str]]) -> None:
    path = tmp_path / f"rows{extension}"
    path.write_bytes(WRITERS[extension](rows))
    loaded = load(path, type="generation")
    assert [(row.input, row.target, row.row) for row in loaded.test] == [(r["input"], r["target"], r) for r in rows]


JSON = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT
COLUMNS = st.dictionaries(TEXT, JSON | st.lists(JSON, max_size=2) | st.dictionaries(TEXT, JSON, max_size=2), max_size=3)


@settings(OPTIONS, max_examples=25)
@given(rows=st.lists(COLUMNS, min_size=1, max_size=4))
def test_any_json_columns_beside_input_and_target_are_kept(tmp_path: Path, rows: list[dict[str, object]]) -> None:
    rows = [{**row, "input": "a", "target": "x", "id": str(i)} for i, row in enumerate(rows)]
    path = write(tmp_path, "rows.jsonl", "\n".join(map(json.dumps, rows)))
    assert [row.row for row in load(path, input="input", target="target").test] == rows


@pytest.mark.parametrize("extension", WRITERS)
@OPTIONS
@given(noise=st.binary(), rows=ROWS, at=st.integers(0, 400), cut=st.integers(0, 40))
def test_random_bytes_give_a_user_error_or_a_test_set(
    tmp_path: Path, extension: str, noise: bytes, rows: list[dict[str, str]], at: int, cut: int
) -> None:
    good = WRITERS[extension](rows)
    for content in (noise, good[:at] + noise + good[at + cut :]):
        path = write(tmp_path, f"noise{extension}", content)
        try:
            assert load(path).test
        except UserError as error:
            assert error.faults
            assert all(str(path) in fault or "more bad rows" in fault for fault in error.faults)


# ---------------------------------------------------------------- speed


def test_text_files_load_without_pandas_pyarrow_or_datasets(tmp_path: Path) -> None:
    path = write(tmp_path, "t.csv", "input,target\na,x\n")
    program = (
        "import sys; from evalft import testset; from evalft.config import TaskConfig;"
        f"testset.load(TaskConfig(test={str(path)!r}));"
        "print([name for name in ('pandas', 'pyarrow', 'datasets', 'torch') if name in sys.modules])"
    )
    assert (
        subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.strip()
        == "[]"
    )


@pytest.mark.slow
def test_200_000_rows_need_under_a_kilobyte_each(tmp_path: Path) -> None:
    with (tmp_path / "t.jsonl").open("w") as file:
        for i in range(200_000):
            file.write(
                json.dumps({"text": f"message {i} about lost cards and late refunds", "label": f"l{i % 9}"}) + "\n"
            )
    program = (
        "import resource; from evalft import testset; from evalft.config import TaskConfig;"
        "used = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss;"
        f"before = used(); testset.load(TaskConfig(test={str(tmp_path / 't.jsonl')!r})); print(used() - before)"
    )
    used_kib = int(subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout)
    assert used_kib < 200_000
