"""Which templates a device may be of, by what it says of itself."""

import pytest

from protocols.templates import fitting


@pytest.mark.parametrize(
    ("vendor", "model", "fit"),
    [
        ("Eastron", "SDM630-Modbus V2", ["eastron_sdm630"]),
        ("ABB", "B23 112-100", ["abb_b23"]),
        ("Fronius", "Symo 8.2-3-M", ["fronius_symo_float"]),
        ("Schneider Electric", "iEM3155", ["schneider_iem3155"]),
        ("SMA", "STP 8.0", ["sma_inverter"]),
        ("Eastron", "SDM999", []),
        ("Eastron", "", []),
        ("Nobody", "SDM630", []),
        ("", "", []),
    ],
)
def test_a_template_fits_by_vendor_and_model(vendor: str, model: str, fit: list[str]) -> None:
    assert fitting("modbus", vendor, model) == fit


def test_a_template_of_another_driver_never_fits() -> None:
    assert fitting("mqtt", "Eastron", "SDM630") == []
