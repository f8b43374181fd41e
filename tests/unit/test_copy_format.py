"""Binary COPY rows: the bytes of the format's page, made of whole columns."""

import struct

import numpy as np

from central.storage.copy_format import HEADER, TRAILER, encode_rows, timestamps


def test_a_row_is_laid_out_as_the_manual_says() -> None:
    at = timestamps(np.array([946_684_800_000_001], np.int64))

    data = encode_rows(1, at, np.array([1.5]), np.array([-7], np.int32), np.array([8192], np.int16))

    row = struct.pack(">hiqidiiih", 4, 8, 1, 8, 1.5, 4, -7, 2, 8192)
    assert bytes(data) == HEADER + row + TRAILER


def test_a_null_column_has_a_length_and_no_bytes() -> None:
    data = encode_rows(2, None, np.array([1, 2], np.int16))

    rows = b"".join(struct.pack(">hiih", 2, -1, 2, number) for number in (1, 2))
    assert bytes(data) == HEADER + rows + TRAILER


def test_no_rows_are_a_header_and_a_trailer() -> None:
    assert bytes(encode_rows(0, np.array([], np.int32))) == HEADER + TRAILER
