#!/usr/bin/env python3
"""Small Parquet files as Hugging Face (pyarrow) and Polars write them: parquet_files.py, in golden/. Needs pyarrow, polars.

Each file has a column `text` with the rows of ROWS (null included); lists.parquet has lists of texts instead."""
from pathlib import Path

import polars
import pyarrow as pa
import pyarrow.parquet as pq

OUT = Path(__file__).parent / "parquet"
# Repeated rows fill a dictionary; the long one is longer than a page's statistics.
ROWS = ["a reed", None, "a pen", "écrit", "", "a reed", "ink " * 300, "a pen", None, "a reed"] * 3


def write(name, table, **options):
    pq.write_table(table, OUT / name, row_group_size=12, **options)


OUT.mkdir(exist_ok=True)
table = pa.table({"id": list(range(len(ROWS))), "text": pa.array(ROWS, pa.string())})
# datasets' own default was snappy; the hub's conversions and newer versions use zstd.
write("pyarrow-zstd.parquet", table, compression="zstd")
write("pyarrow-zstd-plain.parquet", table, compression="zstd", use_dictionary=False, data_page_version="2.0")
write("pyarrow-brotli.parquet", table, compression="brotli")
write("pyarrow-brotli-v2.parquet", table, compression="brotli", data_page_version="2.0", write_page_checksum=True)
write("pyarrow-lz4.parquet", table, compression="lz4")
large = pa.table({"text": pa.array(ROWS, pa.large_string()), "extra": pa.array([{"lang": "en", "n": [1, 2]}] * len(ROWS))})
write("large-strings.parquet", large, compression="zstd", column_encoding={"text": "DELTA_BYTE_ARRAY"}, use_dictionary=False)
write("struct.parquet", pa.table({"page": pa.array([None if row is None else {"text": row} for row in ROWS])}), compression="zstd")
write("lists.parquet", pa.table({"text": pa.array([[row or ""] for row in ROWS])}), compression="zstd")
frame = polars.DataFrame({"text": ROWS, "id": range(len(ROWS))})
frame.write_parquet(OUT / "polars-zstd.parquet")
frame.with_columns(polars.col("text").cast(polars.Categorical)).write_parquet(OUT / "polars-categorical.parquet", row_group_size=12)
frame.write_parquet(OUT / "polars-brotli.parquet", compression="brotli")
