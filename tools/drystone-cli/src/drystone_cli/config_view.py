# SPDX-License-Identifier: Apache-2.0
"""Shows settings and what is wrong with them."""

import json
import sys
from dataclasses import fields

from drystone_cli.exits import USAGE
from drystone_runtime.clock import SystemClock
from drystone_runtime.config_sections import SECTIONS, RpcSettings, Settings
from drystone_runtime.config_values import pairs


def show_problems(problems: list[str], *, as_json: bool) -> int:
    """All of them; returns the exit code."""
    if as_json:
        print(json.dumps({"ok": False, "problems": problems}, ensure_ascii=False))
    else:
        for problem in problems:
            print(problem, file=sys.stderr)
        print(f"{len(problems)} problem{'s' if len(problems) != 1 else ''}", file=sys.stderr)
    return USAGE


def _toml(value: object) -> str:
    """A value as it may stand in the file."""
    if isinstance(value, tuple) and value and all(isinstance(one, tuple) for one in value):
        return "{" + ", ".join(f"{json.dumps(key)} = {json.dumps(said)}" for key, said in value) + "}"
    return json.dumps(list(value) if isinstance(value, tuple) else value)


def certificate_problems(rpc: RpcSettings) -> list[str]:
    """What a service that starts now would say of its certificate."""
    if not (rpc.tls_ca and rpc.tls_cert and rpc.tls_key):
        return []
    from drystone_runtime.rpc.tls import TlsFiles, TlsRefused, load

    try:
        files = TlsFiles(ca=rpc.tls_ca, cert=rpc.tls_cert, key=rpc.tls_key)
        load(files, kind=None, now=SystemClock().wall_us() // 1_000_000)
    except TlsRefused as error:
        return error.problems
    return []


def show_settings(settings: Settings, *, as_json: bool) -> None:
    """Every setting in effect, as TOML with its help; secrets never."""
    plain = settings.as_mapping()
    if as_json:
        print(json.dumps({"ok": True, "settings": plain}, ensure_ascii=False))
        return
    for section, values in plain.items():
        if section == "root":
            continue
        print(f"[{section}]")
        for what in fields(SECTIONS[section]):
            shown = _toml(values[what.name])
            if what.metadata["parse"] is pairs and shown == "[]":
                shown = "{}"
            print(f"{what.name} = {shown:<24} # {what.metadata['help']}")
        print()
