# SPDX-License-Identifier: Apache-2.0
"""Configuration: three sources, all problems at once."""

import json
from pathlib import Path

import pytest

from drystone_runtime.config import ConfigError, load
from drystone_runtime.config_sections import Settings


def test_flags_win_over_environment_and_environment_over_file(tmp_path: Path) -> None:
    """The last source that speaks wins, key by key."""
    file = tmp_path / "d.toml"
    file.write_text('[server]\nlisten = "1.1.1.1:1"\nregion = "eu-west-1"\ndomains = ["s3.example"]\n')
    settings = load(
        file=file,
        environment={"DRYSTONE_SERVER_LISTEN": "2.2.2.2:2", "DRYSTONE_STORAGE_VOLUME_SIZE": "1GiB"},
        flags={"server.listen": "[::1]:3", "storage.profile": None},
    )
    assert settings.server.listen == "[::1]:3"
    assert settings.server.region == "eu-west-1"
    assert settings.server.domains == ("s3.example",)
    assert settings.storage.volume_size == 1 << 30


def test_every_problem_is_reported_with_its_source(tmp_path: Path) -> None:
    """A typo in each source, a bad value and a half pair all appear in one error."""
    file = tmp_path / "d.toml"
    file.write_text(
        '[server]\nlisten = 9000\nregoin = "x"\n[storag]\nx = 1\n[log]\nlevel = "loud"\n[root]\naccess_key="k"\n'
    )
    with pytest.raises(ConfigError) as caught:
        load(
            file=file,
            environment={
                "DRYSTONE_SERVER_LISTN": "x",
                "DRYSTONE_SERVR_LISTEN": "x",
                "DRYSTONE_ROOT_ACCESS_KEY": "abc",
                "DRYSTONE_TEST_RUN": "ignored",
            },
            flags={"storage.profile": "rs-99-1", "server.tls_cert": "/nowhere.pem"},
        )
    text = "\n".join(caught.value.problems)
    for expected in (
        f"{file}:server.listen: 9000 is not HOST:PORT",
        f"{file}:server.regoin: unknown key; did you mean 'region'?",
        f"{file}:storag: unknown section; did you mean 'storage'?",
        f"{file}:log.level: 'loud' is not one of",
        f"{file}:root: credentials are not read from files",
        "DRYSTONE_SERVER_LISTN: unknown key; did you mean 'listen'?",
        "DRYSTONE_SERVR_LISTEN: unknown section; did you mean DRYSTONE_SERVER_LISTEN?",
        "--profile: profile 'rs-99-1'",
        "tls_cert and tls_key go together",
        "/nowhere.pem cannot be read",
        "DRYSTONE_ROOT_ACCESS_KEY and DRYSTONE_ROOT_SECRET_KEY go together",
    ):
        assert expected in text, expected
    assert "TEST_RUN" not in text


def test_settings_survive_the_trip_to_a_child_process_and_hide_secrets() -> None:
    """A child gets equal settings; what is printed never shows the secret."""
    settings = load(
        environment={"DRYSTONE_ROOT_ACCESS_KEY": "AKID", "DRYSTONE_ROOT_SECRET_KEY": "very-secret-key"}, file=None
    )
    assert Settings.from_mapping(json.loads(json.dumps(settings.as_mapping(secrets=True)))) == settings
    assert "very-secret-key" not in json.dumps(settings.as_mapping())
    assert "very-secret-key" not in repr(settings)


@pytest.mark.parametrize(
    ("given", "problem"),
    [("8", ""), ("2.5", ""), ("0", ""), ("1.5", "DRYSTONE_STORAGE_SLOW_FACTOR: 0, or at least 2")]
    + [(bad, f"{bad!r} is not a number") for bad in ("eight", "-1", "nan", "inf", "true")],
)
def test_the_factor_of_a_slow_disk_is_a_number_that_tells_disks_apart(given: str, problem: str) -> None:
    """Nothing negative, nothing endless, and nothing that two sound disks would reach."""
    environment = {"DRYSTONE_STORAGE_SLOW_FACTOR": given}
    if not problem:
        assert load(environment=environment, file=None).storage.slow_factor == float(given)
        return
    with pytest.raises(ConfigError) as caught:
        load(environment=environment, file=None)
    assert problem in "\n".join(caught.value.problems)


@pytest.mark.parametrize("bad", ["[server\n", "\xff"])
def test_a_file_that_is_not_toml_is_one_problem(tmp_path: Path, bad: str) -> None:
    """Broken syntax and broken encoding are named with the file."""
    file = tmp_path / "d.toml"
    file.write_bytes(bad.encode("latin-1"))
    with pytest.raises(ConfigError, match="not valid TOML"):
        load(file=file, environment={})


def test_classes_are_tables_in_the_file_and_pairs_elsewhere(tmp_path: Path) -> None:
    """All sources say the same; what is given survives the trip to a child; what cannot be mapped is told with its source."""
    file = tmp_path / "d.toml"
    file.write_text(
        '[storage]\nclasses = {STANDARD = "ssd", STANDARD_IA = "hdd"}\ndisk_classes = {"/mnt/cold*" = "hdd"}\n'
    )
    wanted = (("STANDARD", "ssd"), ("STANDARD_IA", "hdd")), (("/mnt/cold*", "hdd"),)
    pairs = {"DRYSTONE_STORAGE_CLASSES": "STANDARD=ssd, STANDARD_IA=hdd"}
    for settings in (
        load(file=file, environment={}),
        load(file=file, environment={"DRYSTONE_STORAGE_CLASSES": "STANDARD=x"}, flags={"storage.classes": "STANDARD=ssd,STANDARD_IA=hdd"}),
        load(environment=pairs, flags={"storage.disk_classes": "/mnt/cold*=hdd"}),
    ):  # fmt: skip
        assert (settings.storage.classes, settings.storage.disk_classes) == wanted
        assert Settings.from_mapping(json.loads(json.dumps(settings.as_mapping(secrets=True)))) == settings
    file.write_text('[storage]\nclasses = {GLACIER = "hdd", HOUSE = "hdd", STANDARD = "SSD"}\ndisk_classes = ["a"]\n')
    with pytest.raises(ConfigError) as caught:
        load(
            file=file, environment={"DRYSTONE_STORAGE_DISK_CLASSES": "/d0"}, flags={"storage.disk_classes": "/a=x,/a=y"}
        )
    text = "\n".join(caught.value.problems)
    for expected in (
        f"{file}:storage.classes: GLACIER cannot be mapped: its objects must be restored",
        f"{file}:storage.classes: 'HOUSE' is not a storage class that can be mapped",
        f"{file}:storage.classes: 'SSD' is not a disk class",
        f"{file}:storage.disk_classes: ['a'] is not a table of texts",
        "DRYSTONE_STORAGE_DISK_CLASSES: '/d0' has an entry that is not KEY=value",
        "--disk-classes: '/a=x,/a=y' names /a twice",
    ):
        assert expected in text, (expected, text)
