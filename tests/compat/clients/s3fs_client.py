# SPDX-License-Identifier: Apache-2.0
"""s3fs (fsspec): files, folders, ranges, moves, multipart writes."""

import os

import s3fs

BUCKET = "compat-s3fs"


def main() -> None:
    fs = s3fs.S3FileSystem(
        key=os.environ["AWS_ACCESS_KEY_ID"],
        secret=os.environ["AWS_SECRET_ACCESS_KEY"],
        client_kwargs={"endpoint_url": os.environ["S3_ENDPOINT"]},
    )
    fs.mkdir(BUCKET)
    data = os.urandom(14 << 20)
    with fs.open(f"{BUCKET}/a/b/file", "wb", block_size=5 << 20) as sink:
        for start in range(0, len(data), 1 << 20):
            sink.write(data[start : start + (1 << 20)])
    with fs.open(f"{BUCKET}/a/b/file", "rb") as source:
        source.seek(7_000_000)
        assert source.read(5000) == data[7_000_000:7_005_000]
    assert fs.cat(f"{BUCKET}/a/b/file") == data
    fs.pipe({f"{BUCKET}/many/{n}": b"%d" % n for n in range(30)})
    assert len(fs.ls(f"{BUCKET}/many")) == 30 and fs.isdir(f"{BUCKET}/many")
    assert fs.cat_file(f"{BUCKET}/many/7") == b"7"
    fs.mv(f"{BUCKET}/many/7", f"{BUCKET}/moved")
    assert not fs.exists(f"{BUCKET}/many/7") and fs.cat(f"{BUCKET}/moved") == b"7"
    assert sorted(fs.find(BUCKET))[0] == f"{BUCKET}/a/b/file" and len(fs.glob(f"{BUCKET}/many/*")) == 29
    fs.touch(f"{BUCKET}/empty")
    assert fs.info(f"{BUCKET}/empty")["size"] == 0
    fs.rm(BUCKET, recursive=True)
    print("ok")


main()
