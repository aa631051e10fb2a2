# SPDX-License-Identifier: Apache-2.0
"""pyarrow: its own S3 file system; a partitioned Parquet data set written, listed and read back."""

import os

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
from pyarrow import fs

BUCKET = "compat-pyarrow"


def main() -> None:
    s3 = fs.S3FileSystem(
        access_key=os.environ["AWS_ACCESS_KEY_ID"],
        secret_key=os.environ["AWS_SECRET_ACCESS_KEY"],
        endpoint_override=os.environ["S3_ENDPOINT"].removeprefix("http://"),
        scheme="http",
        region="us-east-1",
        allow_bucket_creation=True,
        allow_bucket_deletion=True,
    )
    s3.create_dir(BUCKET)
    table = pa.table({"n": list(range(200_000)), "group": [n % 4 for n in range(200_000)]})
    ds.write_dataset(table, f"{BUCKET}/set", filesystem=s3, format="parquet", partitioning=["group"])
    back = ds.dataset(f"{BUCKET}/set", filesystem=s3, format="parquet", partitioning=["group"]).to_table()
    assert sorted(back["n"].to_pylist()) == list(range(200_000))
    pq.write_table(table, f"{BUCKET}/one.parquet", filesystem=s3)
    assert pq.read_table(f"{BUCKET}/one.parquet", filesystem=s3, columns=["n"]).num_rows == 200_000
    with s3.open_output_stream(f"{BUCKET}/large") as sink:
        for _ in range(24):
            sink.write(b"\x01" * (1 << 20))
    assert s3.get_file_info(f"{BUCKET}/large").size == 24 << 20
    with s3.open_input_file(f"{BUCKET}/large") as source:
        assert source.read_at(100, 5_000_000) == b"\x01" * 100
    s3.copy_file(f"{BUCKET}/one.parquet", f"{BUCKET}/two.parquet")
    infos = s3.get_file_info(fs.FileSelector(BUCKET, recursive=True))
    assert sum(i.type == fs.FileType.File for i in infos) == 7, infos
    s3.delete_dir(BUCKET)
    print("ok")


main()
