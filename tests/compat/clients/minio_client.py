# SPDX-License-Identifier: Apache-2.0
"""minio-py: signed streaming uploads, stat, ranges, compose-like copies, listings, multi-delete."""

import io
import os

from minio import Minio
from minio.commonconfig import CopySource
from minio.deleteobjects import DeleteObject

BUCKET = "compat-minio"


def main() -> None:
    client = Minio(
        endpoint=os.environ["S3_ENDPOINT"].removeprefix("http://"),
        access_key=os.environ["AWS_ACCESS_KEY_ID"],
        secret_key=os.environ["AWS_SECRET_ACCESS_KEY"],
        secure=False,
    )
    client.make_bucket(bucket_name=BUCKET)
    assert client.bucket_exists(bucket_name=BUCKET)
    small, large = os.urandom(3000), os.urandom(12 << 20)
    client.put_object(bucket_name=BUCKET, object_name="dir/small", data=io.BytesIO(small), length=len(small))
    client.put_object(bucket_name=BUCKET, object_name="large", data=io.BytesIO(large), length=-1, part_size=5 << 20)
    assert client.get_object(bucket_name=BUCKET, object_name="dir/small").read() == small
    assert client.get_object(bucket_name=BUCKET, object_name="large").read() == large
    part = client.get_object(bucket_name=BUCKET, object_name="large", offset=6 << 20, length=1000).read()
    assert part == large[6 << 20 : (6 << 20) + 1000]
    assert client.stat_object(bucket_name=BUCKET, object_name="large").size == len(large)
    client.copy_object(
        bucket_name=BUCKET, object_name="copy", source=CopySource(bucket_name=BUCKET, object_name="large")
    )
    assert client.get_object(bucket_name=BUCKET, object_name="copy").read() == large
    names = [o.object_name for o in client.list_objects(bucket_name=BUCKET, recursive=True)]
    assert names == ["copy", "dir/small", "large"], names
    assert sorted(o.object_name for o in client.list_objects(bucket_name=BUCKET)) == ["copy", "dir/", "large"]
    problems = client.remove_objects(bucket_name=BUCKET, delete_object_list=[DeleteObject(n) for n in names])
    assert not list(problems)
    client.remove_bucket(bucket_name=BUCKET)
    print("ok")


main()
