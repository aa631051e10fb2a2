# SPDX-License-Identifier: Apache-2.0
"""The drystone command: what can be asked, and how it fails. Each verb imports what it needs when it runs."""

import sys
from pathlib import Path
from typing import Annotated, NoReturn

import click
import typer

from drystone_cli import VERSION
from drystone_cli.exits import FAILED, OK, USAGE, Failure

app = typer.Typer(
    help="Drystone: an S3-compatible object store of erasure-coded fragments.",
    epilog="Exit codes: 0 done and well · 1 not done, or health is not OK · 2 usage or configuration · 3 nobody answers.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
config_app = typer.Typer(help="The configuration.", no_args_is_help=True, rich_markup_mode=None)
inspect_app = typer.Typer(help="Look at what lies on disk.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(config_app, name="config")
app.add_typer(inspect_app, name="inspect")

Json = Annotated[bool, typer.Option("--json", help="For programs: one JSON document on standard output.")]
ConfigFile = Annotated[
    Path | None,
    typer.Option("--config", metavar="FILE", help="TOML file; else ./drystone.toml, /etc/drystone/drystone.toml."),
]
StateDir = Annotated[
    Path | None, typer.Option("--state-dir", metavar="DIR", help="State directory of the store; else found from DIR.")
]


@app.command()
def serve(
    directories: Annotated[
        list[Path], typer.Argument(metavar="DIR…", help="One directory for everything, or the disks themselves.")
    ],
    listen: Annotated[
        str | None, typer.Option(metavar="HOST:PORT", help="Where S3 is served.  [default: 127.0.0.1:9000]")
    ] = None,
    tls_cert: Annotated[str | None, typer.Option(metavar="FILE", help="PEM certificate chain: serve HTTPS.")] = None,
    tls_key: Annotated[str | None, typer.Option(metavar="FILE", help="PEM private key of the certificate.")] = None,
    profile: Annotated[
        str | None, typer.Option(metavar="NAME", help="rs-K-M for a new store, or none for a single copy.")
    ] = None,
    state_dir: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Sockets, pid, credential; else DIR/state or drystone-state.")
    ] = None,
    config: ConfigFile = None,
) -> None:
    """Run a store until SIGTERM: one process tree, nothing else to install."""
    from drystone_cli.serve import serve as run
    from drystone_runtime.config import ConfigError, load

    flags = {
        "server.listen": listen,
        "server.tls_cert": tls_cert,
        "server.tls_key": tls_key,
        "storage.profile": profile,
    }
    try:
        settings = load(file=config, flags=flags)
    except ConfigError as error:
        _fail_configuration(error.problems)
    raise typer.Exit(run(directories, state=state_dir, settings=settings))


@app.command()
def status(
    directory: Annotated[
        Path | None, typer.Argument(metavar="DIR", help="The store's directory.  [default: ./data]")
    ] = None,
    state_dir: StateDir = None,
    json: Json = False,
) -> None:
    """Health with reasons, disks, volumes, metadata copies, repair: one screen."""
    from drystone_cli.status import show

    raise typer.Exit(show(directory, state_dir, as_json=json))


@config_app.command("check")
def config_check(config: ConfigFile = None, json: Json = False) -> None:
    """Report every problem of file and environment at once; show the settings when there is none."""
    from drystone_cli.config_view import show_problems, show_settings
    from drystone_runtime.config import ConfigError, load

    try:
        settings = load(file=config)
    except ConfigError as error:
        raise typer.Exit(show_problems(error.problems, as_json=json)) from error
    show_settings(settings, as_json=json)


@inspect_app.command("object")
def inspect_object(
    uri: Annotated[str, typer.Argument(metavar="s3://BUCKET/KEY", help="The object.")],
    directory: Annotated[
        Path | None, typer.Argument(metavar="DIR", help="The store's directory.  [default: ./data]")
    ] = None,
    version_id: Annotated[str, typer.Option(metavar="ID", help="A version; else the current one.")] = "",
    state_dir: StateDir = None,
    json: Json = False,
) -> None:
    """Where an object's fragments lie, and whether each verifies."""
    from drystone_cli.inspect_object import show

    raise typer.Exit(show(uri, directory, state_dir, version_id=version_id, as_json=json))


@inspect_app.command("shard")
def inspect_shard(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A file of DISK/volumes.")],
    json: Json = False,
) -> None:
    """The records of a shard file, and whether each verifies. Works on a store that is not running."""
    from drystone_cli.inspect_shard import show

    raise typer.Exit(show(file, as_json=json))


@app.command()
def bench(
    endpoint: Annotated[str, typer.Option(metavar="URL", help="The S3 endpoint.")] = "http://127.0.0.1:9000",
    size: Annotated[str, typer.Option(metavar="SIZE", help="Bytes of an object.")] = "4KiB",
    connections: Annotated[int, typer.Option(min=1, max=256, help="Requests in flight at once.")] = 16,
    seconds: Annotated[float, typer.Option(min=1, max=300, help="For each of PUT and GET.")] = 5.0,
    json: Json = False,
) -> None:
    """A short PUT and GET benchmark against an endpoint (credentials: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY)."""
    from drystone_cli.bench import run

    raise typer.Exit(run(endpoint, size=size, connections=connections, seconds=seconds, as_json=json))


@app.command()
def version(json: Json = False) -> None:
    """Drystone's version."""
    print(f'{{"version": "{VERSION}"}}' if json else f"drystone {VERSION}")


def main() -> NoReturn:
    """The command's entry: every failure has a cause and a next step."""
    try:
        code = app(prog_name="drystone", standalone_mode=False)
    except Failure as error:
        print(f"drystone: {error.cause}", file=sys.stderr)
        if error.next_step:
            print(f"  next: {error.next_step}", file=sys.stderr)
        sys.exit(error.code)
    except click.ClickException as error:
        error.show()
        sys.exit(USAGE)
    except (KeyboardInterrupt, click.exceptions.Abort):
        sys.exit(FAILED)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(FAILED)
    sys.exit(code if isinstance(code, int) else OK)


def _fail_configuration(problems: list[str]) -> NoReturn:
    for problem in problems:
        print(f"drystone: {problem}", file=sys.stderr)
    print("  next: correct them all, then `drystone config check`", file=sys.stderr)
    raise typer.Exit(USAGE)
