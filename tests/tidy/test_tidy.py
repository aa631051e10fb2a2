# SPDX-License-Identifier: Apache-2.0
"""What no linter checks: lengths, names, words, licences, docstrings. Exceptions stand in allow.toml and only shrink."""

import ast
import re
import subprocess
import tomllib
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ALLOWED = tomllib.loads((Path(__file__).with_name("allow.toml")).read_text())
MODULE_LINES, FUNCTION_LINES, FILE_BYTES = 500, 70, 256 * 1024
BANNED_NAMES = {"utils.py", "helpers.py", "common.py", "manager.py", "misc.py"}
UNFINISHED = re.compile(r"\b(TODO|FIXME|XXX)\b|raise NotImplementedError")
BANNED_WORDS = re.compile(r"\bneedle\b|mock\.patch|unittest\.mock", re.IGNORECASE)
GENERATED = "libs/drystone-wire/src/drystone/"


@cache
def tracked() -> tuple[Path, ...]:
    """Files of the repository that git knows and that exist."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout.decode()
    paths = [ROOT / name for name in listed.split("\0") if name]
    return tuple(path for path in paths if path.is_file() and not path.is_symlink())


def python_files() -> list[Path]:
    """Ours, not generated."""
    return [path for path in tracked() if path.suffix == ".py" and not name_of(path).startswith(GENERATED)]


def name_of(path: Path) -> str:
    """As people write it."""
    return path.relative_to(ROOT).as_posix()


def over(found: dict[str, int], allowed: dict[str, int]) -> list[str]:
    """What is longer than it may be."""
    return [
        f"{name}: {count} (allowed {allowed.get(name, 0)})"
        for name, count in found.items()
        if count > allowed.get(name, 0)
    ]


def test_modules_are_at_most_five_hundred_lines() -> None:
    """A longer one holds two ideas."""
    found = {name_of(p): n for p in python_files() if (n := p.read_text().count("\n")) > MODULE_LINES}
    assert over(found, ALLOWED["module_lines"]) == []


def test_functions_are_at_most_seventy_lines() -> None:
    """Parents branch, leaves compute."""
    found = {}
    for path in python_files():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                length = (node.end_lineno or node.lineno) - node.lineno + 1
                if length > FUNCTION_LINES:
                    found[f"{name_of(path)}::{node.name}"] = length
    assert over(found, ALLOWED["function_lines"]) == []


def test_allowances_are_still_needed() -> None:
    """The ratchet only tightens."""
    names = {name_of(path) for path in tracked()}
    stale = [name for table in ALLOWED.values() for name in table if name.partition("::")[0] not in names]
    assert stale == []


def test_no_module_has_a_name_that_says_nothing() -> None:
    """A name says what the file knows."""
    assert [name_of(path) for path in python_files() if path.name in BANNED_NAMES] == []


@pytest.mark.parametrize("suffix", [".py", ".proto", ".go", ".sh"])
def test_sources_begin_with_their_licence(suffix: str) -> None:
    """The SPDX line stands first (after an interpreter line)."""
    missing = []
    for path in tracked():
        if path.suffix == suffix and not name_of(path).startswith(GENERATED):
            head = path.read_text(errors="replace").splitlines()[:3]
            if path.stat().st_size and not any("SPDX-License-Identifier: Apache-2.0" in line for line in head):
                missing.append(name_of(path))
    assert missing == []


def test_modules_say_what_they_know() -> None:
    """A docstring opens every module that holds anything."""
    silent = [
        name_of(path)
        for path in python_files()
        if (tree := ast.parse(path.read_text())).body and not ast.get_docstring(tree)
    ]
    assert silent == []


def test_nothing_is_left_unfinished() -> None:
    """No unfinished marks, no stubs, no patched-over tests."""
    found = [
        f"{name_of(path)}:{number}"
        for path in python_files()
        if path != Path(__file__)
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if UNFINISHED.search(line) or BANNED_WORDS.search(line)
    ]
    assert found == []


def test_no_file_is_large_but_the_locks() -> None:
    """Large files belong elsewhere."""
    large = {name_of(p) for p in tracked() if p.stat().st_size > FILE_BYTES}
    assert large - set(ALLOWED["large_files"]) == set()


def test_test_files_have_unique_names() -> None:
    """So that a failure's name says where it is."""
    names = [path.name for path in python_files() if path.name.startswith("test_")]
    assert sorted({name for name in names if names.count(name) > 1}) == []


def test_every_setting_is_documented() -> None:
    """docs/operations.md names each section and key."""
    from dataclasses import fields

    from drystone_runtime.config_sections import ENVIRONMENT_ONLY, SECTIONS

    text = (ROOT / "docs" / "operations.md").read_text()
    missing = [
        f"{section}.{field.name}"
        for section, kind in SECTIONS.items()
        for field in fields(kind)
        if section not in ENVIRONMENT_ONLY and f"`{section}.{field.name}`" not in text
    ]
    assert missing == []


def test_every_field_of_a_contract_is_commented() -> None:
    """A comment stands above each field, value, message, service and method."""
    bare = []
    for path in tracked():
        if path.suffix == ".proto":
            lines = path.read_text().splitlines()
            for number, line in enumerate(lines):
                text = line.strip()
                declares = re.match(r"(message|enum|service|rpc|oneof) |.* = \d+;$", text)
                if declares and not text.startswith("//") and not lines[number - 1].strip().startswith("//"):
                    bare.append(f"{name_of(path)}:{number + 1}")
    assert bare == []


def test_every_health_reason_and_command_is_documented() -> None:
    """docs/operations.md names the codes people will search for, and every verb."""
    text = (ROOT / "docs" / "operations.md").read_text()
    codes = re.findall(r'code="([A-Z_]+)"', (ROOT / "libs/drystone-core/src/drystone_core/cell.py").read_text())
    verbs = [
        "serve",
        "status",
        "inspect object",
        "inspect shard",
        "scrub start",
        "scrub status",
        "config check",
        "bench",
        "version",
    ]
    verbs += ["layout show", "layout plan", "layout apply", "layout revert"]
    verbs += ["certs init", "certs show", "cell init", "gateway|metadata|storage-node|lifecycle|replication"]
    assert codes
    assert [code for code in codes if f"`{code}`" not in text] == []
    assert [verb for verb in verbs if f"drystone {verb}" not in text] == []


def test_documents_that_are_named_exist() -> None:
    """In sources and documents; a moved page must not leave its readers behind."""
    named = re.compile(r"\bdocs/[a-z0-9/_-]+\.md\b")
    linked = re.compile(r"\]\((?!https?:)([^)#]+)")
    lost = []
    for path in tracked():
        if path.suffix not in (".py", ".md", ".proto", ".toml") or not path.is_file():
            continue
        text = path.read_text(errors="replace")
        lost += [f"{name_of(path)}: {name}" for name in named.findall(text) if not (ROOT / name).exists()]
        if path.suffix == ".md":
            lost += [f"{name_of(path)}: {to}" for to in linked.findall(text) if not (path.parent / to).exists()]
    assert lost == []


def test_every_decision_stands_in_the_index() -> None:
    """docs/adr/README.md lists them all."""
    index = (ROOT / "docs" / "adr" / "README.md").read_text()
    pages = sorted(path.name for path in (ROOT / "docs" / "adr").glob("0*.md"))
    assert [page for page in pages if page not in index] == []


def test_the_walk_through_names_real_functions() -> None:
    """Each row of docs/architecture.md that names a module and functions of it."""
    text = (ROOT / "docs" / "architecture.md").read_text()
    rows = re.findall(r"^\| `([a-z0-9_/-]+\.py)` \| ((?:`\w+`(?:, )?)+) \|", text, re.MULTILINE)
    assert len(rows) >= 10
    lost = []
    for name, functions in rows:
        tree = ast.parse((ROOT / name).read_text())
        defined = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
        lost += [f"{name}: {each}" for each in re.findall(r"`(\w+)`", functions) if each not in defined]
    assert lost == []
