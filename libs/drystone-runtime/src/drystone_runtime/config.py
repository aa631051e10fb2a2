# SPDX-License-Identifier: Apache-2.0
"""Configuration: a TOML file, then the environment, then flags; the last one that speaks wins.

Invariants
  C1  Every problem of every source is reported together, each with where it stands (file:key, variable or flag).
  C2  An unknown section or key is a problem, with the nearest known name.
  C3  The root credential comes from the environment or from the store's own file, never from the configuration file.
The file is --config, else ./drystone.toml, else /etc/drystone/drystone.toml; a variable is DRYSTONE_SECTION_KEY.
"""

import difflib
import os
import tomllib
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from drystone_runtime.config_sections import ENVIRONMENT_ONLY, SECTIONS, Settings
from drystone_runtime.config_values import parse_value

PREFIX = "DRYSTONE_"
DEFAULT_FILES = (Path("drystone.toml"), Path("/etc/drystone/drystone.toml"))


class ConfigError(Exception):
    """What is wrong with the configuration: one sentence per problem, all of them."""

    def __init__(self, problems: list[str], settings: Settings) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems
        self.settings = settings
        """What could be understood, for whoever looks for further problems."""


def load(
    *,
    file: Path | None = None,
    environment: Mapping[str, str] | None = None,
    flags: Mapping[str, str | None] | None = None,
) -> Settings:
    """The settings of this process. `flags` maps `section.key` to what the command line said; None = not said.

    Raises ConfigError with every problem found.
    """
    problems: list[str] = []
    values: dict[tuple[str, str], Any] = {}
    sources: dict[str, str] = {}
    path = file if file is not None else next((p for p in DEFAULT_FILES if p.is_file()), None)
    if path is not None:
        _from_file(path, values, sources, problems)
    _from_environment(os.environ if environment is None else environment, values, sources, problems)
    for name, text in (flags or {}).items():
        if text is not None:
            section, key = name.split(".")
            _put(section, key, text, f"--{key.replace('_', '-')}", values, sources, problems)
    settings = _build(values)
    problems += [_with_source(problem, sources) for problem in settings.problems()]
    if problems:
        raise ConfigError(problems, settings)
    return settings


def _with_source(problem: str, sources: Mapping[str, str]) -> str:
    """A problem that begins with `section.key:` names where that value came from."""
    name, colon, sentence = problem.partition(":")
    return f"{sources[name]}:{sentence}" if colon and name in sources else problem


def _from_file(path: Path, values: dict[tuple[str, str], Any], sources: dict[str, str], problems: list[str]) -> None:
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        problems.append(f"{path}: cannot be read: {error.strerror}")
        return
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        problems.append(f"{path}: not valid TOML: {error}")
        return
    for section, table in document.items():
        if section not in SECTIONS:
            problems.append(f"{path}:{section}: unknown section{_nearest(section, SECTIONS)}")
        elif not isinstance(table, dict):
            problems.append(f"{path}:{section}: is a section, write [{section}] and its keys below")
        elif section in ENVIRONMENT_ONLY:
            problems.append(f"{path}:{section}: credentials are not read from files; set {PREFIX}{section.upper()}_…")
        else:
            for key, value in table.items():
                _put(section, key, value, f"{path}:{section}.{key}", values, sources, problems)


def _from_environment(
    environment: Mapping[str, str],
    values: dict[tuple[str, str], Any],
    sources: dict[str, str],
    problems: list[str],
) -> None:
    for name in sorted(environment):
        if not name.startswith(PREFIX):
            continue
        section, _, key = name[len(PREFIX) :].lower().partition("_")
        if section in SECTIONS:
            _put(section, key, environment[name], name, values, sources, problems)
        elif close := difflib.get_close_matches(section, SECTIONS, n=1, cutoff=0.75):
            problems.append(f"{name}: unknown section; did you mean {PREFIX}{close[0].upper()}_{key.upper()}?")


def _put(
    section: str,
    key: str,
    value: object,
    source: str,
    values: dict[tuple[str, str], Any],
    sources: dict[str, str],
    problems: list[str],
) -> None:
    known = {field.name: field for field in fields(SECTIONS[section])}
    if key not in known:
        problems.append(f"{source}: unknown key{_nearest(key, known)}")
        return
    try:
        values[section, key] = parse_value(known[key], value)
        sources[f"{section}.{key}"] = source
    except ValueError as error:
        problems.append(f"{source}: {error}")


def _nearest(name: str, known: Mapping[str, object]) -> str:
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    return f"; did you mean {close[0]!r}?" if close else f"; known are {', '.join(sorted(known))}"


def _build(values: Mapping[tuple[str, str], Any]) -> Settings:
    def of(section: str) -> dict[str, Any]:
        return {key: value for (where, key), value in values.items() if where == section}

    return Settings(**{name: section(**of(name)) for name, section in SECTIONS.items()})
