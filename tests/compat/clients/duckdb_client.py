# SPDX-License-Identifier: Apache-2.0
"""DuckDB with httpfs: COPY to Parquet, globbing, predicate push-down by range reads."""

import os
from pathlib import Path
from urllib.parse import urlsplit

import duckdb
import duckdb_extension_httpfs

BUCKET = "compat-duckdb"


def load_httpfs(db: duckdb.DuckDBPyConnection) -> None:
    """The extension comes from its wheel, never from a download."""
    (extension,) = Path(duckdb_extension_httpfs.__file__).parent.rglob("httpfs.duckdb_extension")
    db.load_extension(str(extension))


def main() -> None:
    endpoint = urlsplit(os.environ["S3_ENDPOINT"]).netloc
    make_bucket()
    db = duckdb.connect()
    load_httpfs(db)
    db.execute(
        f"CREATE SECRET s (TYPE s3, KEY_ID '{os.environ['AWS_ACCESS_KEY_ID']}', SECRET "
        f"'{os.environ['AWS_SECRET_ACCESS_KEY']}', ENDPOINT '{endpoint}', USE_SSL false, URL_STYLE 'path', REGION 'us-east-1')"
    )
    db.execute(
        f"COPY (SELECT i, i % 7 AS g, repeat('x', 40) AS t FROM range(1000000) r(i)) TO 's3://{BUCKET}/one.parquet'"
    )
    assert db.execute(f"SELECT count(*), sum(i) FROM 's3://{BUCKET}/one.parquet'").fetchone() == (10**6, 499999500000)
    db.execute(
        f"COPY (SELECT i, i % 3 AS g FROM range(3000) r(i)) TO 's3://{BUCKET}/parts' (FORMAT parquet, PARTITION_BY (g))"
    )
    count = db.execute(f"SELECT count(*) FROM read_parquet('s3://{BUCKET}/parts/*/*.parquet') WHERE g = 1").fetchone()
    assert count == (1000,), count
    assert len(db.execute(f"FROM glob('s3://{BUCKET}/**')").fetchall()) >= 4
    print("ok")


def make_bucket() -> None:
    """DuckDB cannot create buckets; a presigned-free PUT by hand keeps this client free of others."""
    import datetime
    import hashlib
    import hmac
    import urllib.request

    now = datetime.datetime.now(datetime.UTC).strftime("%Y%m%dT%H%M%SZ")
    host, empty = urlsplit(os.environ["S3_ENDPOINT"]).netloc, hashlib.sha256(b"").hexdigest()
    names = "host;x-amz-content-sha256;x-amz-date"
    canonical = f"PUT\n/{BUCKET}\n\nhost:{host}\nx-amz-content-sha256:{empty}\nx-amz-date:{now}\n\n{names}\n{empty}"
    scope = f"{now[:8]}/us-east-1/s3/aws4_request"
    text = f"AWS4-HMAC-SHA256\n{now}\n{scope}\n{hashlib.sha256(canonical.encode()).hexdigest()}"
    key = b"AWS4" + os.environ["AWS_SECRET_ACCESS_KEY"].encode()
    for step in scope.split("/"):
        key = hmac.digest(key, step.encode(), "sha256")
    signature = hmac.digest(key, text.encode(), "sha256").hex()
    authorization = f"AWS4-HMAC-SHA256 Credential={os.environ['AWS_ACCESS_KEY_ID']}/{scope}, SignedHeaders={names}, Signature={signature}"
    headers = {"x-amz-date": now, "x-amz-content-sha256": empty, "Authorization": authorization}
    urllib.request.urlopen(
        urllib.request.Request(f"{os.environ['S3_ENDPOINT']}/{BUCKET}", method="PUT", headers=headers)
    )


main()
