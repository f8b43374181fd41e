"""Import and export of points: nothing is dropped unseen, and what is written is read back."""

import io
import zipfile
from collections.abc import Mapping
from typing import Any

import pytest
from bacpypes3.basetypes import EngineeringUnits
from bacpypes3.primitivedata import ObjectType
from hypothesis import given
from hypothesis import strategies as st
from openpyxl import load_workbook

from edge.exchange import (
    Comparison,
    SheetWrong,
    compare,
    read_ede,
    read_sheet,
    rows_of,
    table_of,
    write_csv,
    write_xlsx,
)
from edge.exchange.ede import _OBJECTS, UNITS

METER = {
    "name": "meter",
    "driver": "modbus",
    "interval_s": 10,
    "options": {"host": "10.0.0.5"},
    "points": [
        {
            "key": "meter/power",
            "unit": "W",
            "type": "number",
            "class": "normal",
            "source": {"table": "input", "register": 52, "type": "float32"},
        },
        {
            "key": "meter/volts",
            "unit": "V",
            "source": {"register": 0, "type": "uint16", "sentinels": [65535]},
            "class": "high",
        },
    ],
}
AHU = {
    "name": "ahu",
    "driver": "bacnet",
    "options": {"host": "10.0.0.6"},
    "points": [{"key": "ahu/t", "source": {"object": "analog-input", "instance": 1}}],
}
DOCUMENT: dict[str, list[dict[str, Any]]] = {"devices": [METER, AHU]}

EDE = """#Engineering-Data-Exchange - B.I.G.-EU;;;;;
PROJECT_NAME;Town hall;;;;
VERSION_OF_REFERENCEFILE;3;;;;
TIMESTAMP_OF_LAST_CHANGE;2026-01-01;;;;
AUTHOR_OF_LAST_CHANGE;NN;;;;
VERSION_OF_LAYOUT;2.3;;;;
#mandatory;mandatory;mandatory;mandatory;mandatory;optional;optional
# keyname;device obj.-instance;object-name;object-type;object-instance;description;unit-code
AHU1'SuTemp;77;SuTemp;0;3;Supply temperature;62
AHU1'Fan;77;Fan;5;1;Supply fan;
AHU1'Mode;77;Mode;19;2;Mode;95
AHU1'Sched;77;Sched;17;1;Schedule;
AHU1'Odd;77;Odd;2;4;Flow;999
"""


def csv(text: str) -> Any:
    return read_sheet(text.encode())


def compared(text: str, **options: Any) -> Comparison:
    return compare(DOCUMENT, rows_of(csv(text), **options))


@pytest.mark.parametrize("write", [write_csv, write_xlsx])
def test_what_is_exported_changes_nothing_when_it_is_imported(write: Any) -> None:
    data = write(table_of(DOCUMENT["devices"]))

    result = compare(DOCUMENT, rows_of(read_sheet(data)))

    assert sorted(result.same) == ["ahu/t", "meter/power", "meter/volts"]
    assert (result.new, result.changed, result.invalid, result.gone) == ([], [], [], [])


def test_new_changed_gone_and_invalid_rows_are_told_apart() -> None:
    result = compared(
        "device;key;unit;source.register;source.type\n"
        "meter;meter/power;kW;52;float32\n"
        "meter;meter/amps;A;6;float32\n"
        "meter;meter/bad;A;70000;float33\n"
    )

    assert result.new == ["meter/amps"]
    assert result.changed == ["meter/power"]
    assert result.gone == ["meter/volts"]
    (invalid,) = result.invalid
    assert (invalid.line, invalid.key) == (4, "meter/bad")
    assert any(reason.startswith("source.register: ") for reason in invalid.reasons)
    assert any(reason.startswith("source.type: ") for reason in invalid.reasons)


def test_the_document_takes_valid_rows_and_keeps_what_they_do_not_speak_of() -> None:
    result = compared(
        "device;key;source.register;source.type\nmeter;meter/volts;9;int16\nmeter;meter/x;1;int16\n"
    )

    points = {one["key"]: one for one in result.document()["devices"][0]["points"]}
    assert list(points) == ["meter/power", "meter/volts", "meter/x"]
    assert points["meter/volts"]["source"] == {"register": 9, "type": "int16"}
    assert points["meter/volts"]["class"] == "high"
    assert points["meter/volts"]["unit"] == "V"
    left = result.document(remove_gone=True)["devices"][0]["points"]
    assert [one["key"] for one in left] == ["meter/volts", "meter/x"]
    assert DOCUMENT["devices"][0]["points"][1]["source"]["register"] == 0


def test_an_invalid_row_is_not_gone() -> None:
    result = compared("device;key;source.register\nmeter;meter/power;-5\nmeter;meter/volts;0\n")

    assert result.gone == []
    assert [one.key for one in result.invalid] == ["meter/power"]


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("meter;ahu/t;5", "a point of device ahu"),
        ("boiler;b/t;5", "no device 'boiler'"),
        (";x/t;5", "no device is named"),
        ("meter;;5", "key"),
        ("meter;bad key;5", "key"),
    ],
)
def test_a_row_that_cannot_be_says_why(row: str, reason: str) -> None:
    result = compared(f"device;key;source.register\n{row}\n")

    assert reason in " ".join(result.invalid[0].reasons)
    assert result.new == []


def test_a_key_that_comes_twice_names_both_lines() -> None:
    result = compared("key;register\nmeter/a;1\nmeter/b;2\nmeter/a;3\n", device="meter")

    assert result.new == ["meter/a", "meter/b"]
    assert (result.invalid[0].line, result.invalid[0].reasons) == (
        4,
        ("meter/a is in line 2 already",),
    )


def test_headings_of_a_supplier_are_understood_or_mapped() -> None:
    result = compared(
        "Name,Units,Address,Data type,Comment\nmeter/f,Hz,0x46,float32,grid\n",
        device="meter",
        columns={"comment": ""},
    )

    assert result.new == ["meter/f"]
    source = result.taken["meter"]["meter/f"]["source"]
    assert source == {"register": 0x46, "type": "float32"}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "no heading"),
        ("key;colour\na;red\n", "'colour' is not understood"),
        ("unit;register\nW;5\n", "no column holds the points' keys"),
        ("key;key\na;b\n", "twice"),
        ("key;name\na;b\n", "two columns mean key"),
        ("key;unit\na;W;surplus\n", "more cells"),
        ("key;unit\na;" + "x" * 3_000, "3,000 characters"),
        ("key\0;unit\n", "neither"),
        (";".join(f"c{at}" for at in range(300)), "300 columns"),
    ],
)
def test_a_file_that_cannot_be_read_says_what_to_do(text: str, told: str) -> None:
    with pytest.raises(SheetWrong, match=told):
        list(rows_of(csv(text)))


def test_files_of_other_encodings_and_separators_are_read() -> None:
    for data in (
        "device;key;unit\nmeter;m/t;°C\n".encode("cp1252"),
        "device,key,unit\r\nmeter,m/t,°C\r\n".encode("utf-16"),
        "device\tkey\tunit\nmeter\tm/t\t°C\n".encode("utf-8-sig"),
    ):
        (row,) = rows_of(read_sheet(data))
        assert row.point["unit"] == "°C"


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"PK\x03\x04" + b"\0" * 100, "damaged"),
        (b"x" * (16 * 1024 * 1024 + 1), "at most"),
    ],
)
def test_damaged_and_huge_files_are_refused(data: bytes, told: str) -> None:
    with pytest.raises(SheetWrong, match=told):
        read_sheet(data)


def test_a_workbook_that_unpacks_to_too_much_is_refused() -> None:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("xl/worksheets/sheet1.xml", b"\0" * (129 * 1024 * 1024))

    with pytest.raises(SheetWrong, match="too large"):
        read_sheet(out.getvalue())


def test_more_rows_than_are_read_are_told_not_cut() -> None:
    with pytest.raises(SheetWrong, match="in parts"):
        csv("key\n" + "a\n" * 50_001)


def test_no_cell_is_a_formula_to_a_spreadsheet() -> None:
    device = {**METER, "points": [{"key": "a", "unit": "=cmd|'/c calc'!A1", "source": {}}]}
    data = write_xlsx(table_of([device]))

    sheet = load_workbook(io.BytesIO(data)).worksheets[0]
    assert [cell.data_type for row in sheet.iter_rows() for cell in row].count("f") == 0
    assert b"'=cmd" in write_csv(table_of([device]))
    (row,) = rows_of(read_sheet(data))
    assert row.point["unit"] == "=cmd|'/c calc'!A1"


texts = st.text(
    st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"]), min_size=1, max_size=20
).map(str.strip)
scalars = st.one_of(
    st.integers(-(2**53), 2**53),
    st.booleans(),
    st.floats(allow_nan=False, allow_infinity=False),
    texts.filter(bool),
    st.lists(st.integers(0, 65_535), max_size=3),
)


@given(st.dictionaries(st.sampled_from(["a", "b", "c"]), scalars, min_size=1), texts)
@pytest.mark.parametrize("write", [write_csv, write_xlsx])
def test_any_options_are_read_back(write: Any, source: Mapping[str, Any], unit: str) -> None:
    device = {"name": "d", "points": [{"key": "d/x", "unit": unit, "source": source}]}

    (row,) = rows_of(read_sheet(write(table_of([device]))))

    assert row.point.get("unit", "") == unit
    assert row.point["source"] == {name: one for name, one in source.items() if one != ""}


def test_an_ede_list_becomes_points_of_a_device() -> None:
    result = compare(DOCUMENT, read_ede(EDE.encode("cp1252"), "ahu", "ahu/"))

    assert result.new == ["ahu/AHU1_SuTemp", "ahu/AHU1_Fan", "ahu/AHU1_Mode", "ahu/AHU1_Odd"]
    taken = result.taken["ahu"]
    assert taken["ahu/AHU1_SuTemp"] == {
        "key": "ahu/AHU1_SuTemp",
        "unit": "°C",
        "type": "number",
        "source": {"object": "analog-input", "instance": 3},
    }
    assert taken["ahu/AHU1_Fan"]["type"] == "boolean"
    assert taken["ahu/AHU1_Odd"]["unit"] == "unit 999"
    assert [(one.line, one.key) for one in result.invalid] == [(12, "ahu/AHU1_Sched")]


def test_a_file_that_is_no_ede_list_is_refused() -> None:
    with pytest.raises(SheetWrong, match="keyname"):
        list(read_ede(b"a;b\n1;2\n", "ahu"))


def test_numbers_of_ede_are_those_of_the_standard() -> None:
    for number, name in _OBJECTS.items():
        assert str(ObjectType(number)) == name
    words = {"°C": "degrees-celsius", "kWh": "kilowatt-hours", "m³/h": "cubic-meters-per-hour"}
    words |= {
        "Pa": "pascals",
        "l/s": "liters-per-second",
        "ppm": "parts-per-million",
        "": "no-units",
    }
    words |= {
        "A": "amperes",
        "V": "volts",
        "Hz": "hertz",
        "lx": "luxes",
        "W": "watts",
        "K": "degrees-kelvin",
    }
    words |= {
        "Wh": "watt-hours",
        "kW": "kilowatts",
        "kPa": "kilopascals",
        "bar": "bars",
        "h": "hours",
    }
    words |= {"°F": "degrees-fahrenheit", "min": "minutes", "s": "seconds", "m³": "cubic-meters"}
    words |= {"l": "liters", "m³/s": "cubic-meters-per-second", "l/min": "liters-per-minute"}
    for code, unit in UNITS.items():
        name = str(EngineeringUnits(code))
        assert name in {words.get(unit), "percent", "percent-relative-humidity"}, (code, unit)
