# SPDX-License-Identifier: Apache-2.0
"""The root credential: made at the first start, kept in a 0600 file that AWS tools can read, shown once on a terminal.

A credential from the environment wins and is never written.
"""

import base64
import configparser
import os
from dataclasses import dataclass, field
from pathlib import Path

from drystone_core.ports import Entropy
from drystone_runtime.config_sections import RootSettings


class CredentialError(Exception):
    """The credential file cannot be used; the message says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RootCredential:
    """Who may do everything."""

    access_key: str
    secret_key: str = field(repr=False)
    made: bool = False
    """Made just now: show it, this once."""
    file: Path | None = None
    """Where it is kept; None = given by the environment."""


def root_credential(path: Path, *, given: RootSettings, entropy: Entropy) -> RootCredential:
    """The one given, else the one in the file, else a new one written there."""
    if given.access_key:
        return RootCredential(access_key=given.access_key, secret_key=given.secret_key)
    if path.exists():
        return _read(path)
    fresh = RootCredential(
        access_key="DRYS" + base64.b32encode(entropy.token(10)).decode(),
        secret_key=base64.b64encode(entropy.token(30)).decode(),
        made=True,
        file=path,
    )
    text = f"[default]\naws_access_key_id = {fresh.access_key}\naws_secret_access_key = {fresh.secret_key}\n"
    temporary = path.with_name(path.name + ".new")
    temporary.unlink(missing_ok=True)
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        os.write(fd, text.encode())
        os.fsync(fd)
    finally:
        os.close(fd)
    temporary.rename(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
    return fresh


def _read(path: Path) -> RootCredential:
    parser = configparser.ConfigParser(interpolation=None)
    try:
        if path.stat().st_mode & 0o077:
            raise CredentialError(f"{path} can be read by others; run: chmod 600 {path}")
        parser.read_string(path.read_text(encoding="utf-8"))
        section = parser["default"]
        access, secret = section["aws_access_key_id"], section["aws_secret_access_key"]
    except (OSError, UnicodeDecodeError, configparser.Error, KeyError) as error:
        raise CredentialError(
            f"{path} cannot be read as a credentials file ({error}); remove it to make a new one"
        ) from error
    return RootCredential(access_key=access, secret_key=secret, file=path)
