"""Points as tables people edit: CSV and XLSX both ways, EDE in; a dry run before all else."""

from edge.exchange.comparison import Comparison, Invalid, compare
from edge.exchange.ede import read_ede
from edge.exchange.rows import Row, rows_of, table_of
from edge.exchange.sheets import Sheet, SheetWrong, read_sheet, write_csv, write_xlsx

__all__ = [
    "Comparison",
    "Invalid",
    "Row",
    "Sheet",
    "SheetWrong",
    "compare",
    "read_ede",
    "read_sheet",
    "rows_of",
    "table_of",
    "write_csv",
    "write_xlsx",
]
