# SPDX-License-Identifier: Apache-2.0
"""The drystone command: what can be asked, and how it fails. Each verb imports what it needs when it runs.

Every failure is a cause and a next step on standard error, with an exit code (exits.py); a traceback is a bug.
"""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from drystone_cli import VERSION
from drystone_cli.exits import CODES, FAILED, OK, USAGE, Failure
from drystone_cli.roles import ROLES
from drystone_cli.roles import run as run_role

if TYPE_CHECKING:
    from drystone_runtime.config_sections import Settings


def main(arguments: list[str] | None = None) -> NoReturn:
    """The command's entry."""
    try:
        sys.exit(_run(sys.argv[1:] if arguments is None else arguments))
    except Failure as error:
        print(f"drystone: {error.cause}", file=sys.stderr)
        if error.next_step:
            print(f"  next: {error.next_step}", file=sys.stderr)
        sys.exit(error.code)
    except KeyboardInterrupt:
        sys.exit(FAILED)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(FAILED)


def _run(arguments: list[str]) -> int:
    if arguments and arguments[0] in ROLES:
        return run_role(arguments[0], arguments[1:])
    parser = build_parser()
    if not arguments:
        parser.print_help(sys.stderr)
        return USAGE
    given = parser.parse_args(arguments)
    code: int = given.run(given)
    sys.stdout.flush()
    return code


class _Parser(argparse.ArgumentParser):
    """Errors as all our errors look."""

    def error(self, message: str) -> NoReturn:
        raise Failure(message, f"{self.prog} --help", USAGE)


def build_parser() -> argparse.ArgumentParser:
    """All verbs."""
    parser = _Parser(
        prog="drystone",
        description="Drystone: an S3-compatible object store of erasure-coded fragments.",
        epilog=f"Exit codes: {CODES}.",
    )
    parser.add_argument("--version", action="version", version=f"drystone {VERSION}")
    verbs = parser.add_subparsers(metavar="VERB", required=True)
    _serve(_verb(verbs, "serve", serve, "run a store until SIGTERM: one process tree, nothing else to install"))
    _store(_verb(verbs, "status", status, "health with reasons, disks, volumes, metadata, repair: one screen"))
    config = _group(verbs, "config", "the configuration")
    check = _verb(config, "check", config_check, "report every problem at once; show the settings when there is none")
    _config_file(check)
    _json(check)
    inspect = _group(verbs, "inspect", "look at what lies on disk")
    _inspect_object(_verb(inspect, "object", inspect_object, "where an object's fragments lie; whether each verifies"))
    shard = _verb(inspect, "shard", inspect_shard, "the records of one shard file; needs no running store")
    shard.add_argument("file", metavar="FILE", type=Path, help="a file of DISK/volumes")
    _json(shard)
    scrub = _group(verbs, "scrub", "read all closed volumes through, to find damage nobody reads")
    _scrub_start(_verb(scrub, "start", scrub_start, "begin a pass now, at storage.scrub_rate; one under way goes on"))
    _watched(_verb(scrub, "status", scrub_status, "how far the pass is, or how the last one ended"))
    _bench(_verb(verbs, "bench", bench, "a short, bounded PUT and GET run against an S3 endpoint"))
    for role, (_, sentence) in ROLES.items():
        verbs.add_parser(role, help=sentence, add_help=False)  # for the list; run_role has its own parser
    cell = _group(verbs, "cell", "a cell of many processes: its coordinator and its metadata store")
    begun = _verb(cell, "init", cell_init, "begin a cell, or bring its schema up to this release's; may be repeated")
    _config_file(begun)
    begun.add_argument(
        "--cluster-id", metavar="HEX", help="32 hex digits; default: random, or the cell's that is there"
    )
    _json(begun)
    layout = _group(verbs, "layout", "what placement may use in a cell: disks, weights, failure domains")
    _store(_verb(layout, "show", layout_show, "zones, nodes and disks; what is in effect, and what is staged"))
    _layout_plan(
        _verb(layout, "plan", layout_plan, "stage a change, on top of what is staged; `apply` puts it in effect")
    )
    _store(_verb(layout, "apply", layout_apply, "put the staged layout in effect at all storage nodes"))
    _store(_verb(layout, "revert", layout_revert, "drop what is staged"))
    certs = _group(verbs, "certs", "certificates by which services of a cell know one another")
    _certs_init(_verb(certs, "init", certs_init, "make an authority and certificates for services, or add to them"))
    shown = _verb(certs, "show", certs_show, "whom a certificate names and until when it is valid")
    shown.add_argument("file", metavar="FILE", type=Path, help="PEM")
    _json(shown)
    _json(_verb(verbs, "version", version, "Drystone's version"))
    return parser


def serve(given: argparse.Namespace) -> int:
    """Run a store until SIGTERM."""
    from drystone_cli.serve import serve as run

    flags = {
        "server.listen": given.listen,
        "server.tls_cert": given.tls_cert,
        "server.tls_key": given.tls_key,
        "storage.profile": given.profile,
        "storage.disk_classes": given.disk_classes,
    }
    settings = _settings(given.config, flags)
    return run(given.directories, state=given.state_dir, settings=settings, add_disks=given.add_disks)


def status(given: argparse.Namespace) -> int:
    """One screen."""
    from drystone_cli.status import show

    return show(given.directory, given.state_dir, as_json=given.json)


def config_check(given: argparse.Namespace) -> int:
    """Every problem of file and environment."""
    from drystone_cli.config_view import certificate_problems, show_problems, show_settings
    from drystone_runtime.config import ConfigError, load

    try:
        settings, problems = load(file=given.config), list[str]()
    except ConfigError as error:
        settings, problems = error.settings, error.problems
    problems += certificate_problems(settings.rpc)
    if problems:
        return show_problems(problems, as_json=given.json)
    show_settings(settings, as_json=given.json)
    return OK


def inspect_object(given: argparse.Namespace) -> int:
    """Every fragment of one object."""
    from drystone_cli.inspect_object import show

    return show(given.uri, given.directory, given.state_dir, version_id=given.version_id, as_json=given.json)


def inspect_shard(given: argparse.Namespace) -> int:
    """Every record of one file."""
    from drystone_cli.inspect_shard import show

    return show(given.file, as_json=given.json)


def scrub_start(given: argparse.Namespace) -> int:
    """Begin a pass."""
    from drystone_cli.scrub import start

    return start(given.directory, given.state_dir, anew=given.anew, watch=given.watch, as_json=given.json)


def scrub_status(given: argparse.Namespace) -> int:
    """The pass."""
    from drystone_cli.scrub import show

    return show(given.directory, given.state_dir, watch=given.watch, as_json=given.json)


def bench(given: argparse.Namespace) -> int:
    """A short measurement."""
    from drystone_cli.bench import run

    return run(
        given.endpoint, size=given.size, connections=given.connections, seconds=given.seconds, as_json=given.json
    )


def cell_init(given: argparse.Namespace) -> int:
    """The cell's identity in the coordinator, its keyspace in Cassandra."""
    from drystone_cli.cell import init

    return init(_settings(given.config, {}), cluster_id=given.cluster_id, as_json=given.json)


def layout_show(given: argparse.Namespace) -> int:
    """Both layouts."""
    from drystone_cli.cell_layout import show

    return show(given.directory, given.state_dir, as_json=given.json)


def layout_plan(given: argparse.Namespace) -> int:
    """Stage a change."""
    from drystone_cli.cell_layout import plan

    return plan(
        given.directory,
        given.state_dir,
        disks=given.disk,
        weights=given.weight,
        drain=given.drain,
        undrain=given.undrain,
        level=given.level,
        as_json=given.json,
    )


def layout_apply(given: argparse.Namespace) -> int:
    """Put what is staged in effect."""
    from drystone_cli.cell_layout import apply

    return apply(given.directory, given.state_dir, as_json=given.json)


def layout_revert(given: argparse.Namespace) -> int:
    """Drop what is staged."""
    from drystone_cli.cell_layout import revert

    return revert(given.directory, given.state_dir, as_json=given.json)


def certs_init(given: argparse.Namespace) -> int:
    """An authority and certificates."""
    from drystone_cli.certs import init

    return init(
        given.directory,
        cell=given.cell,
        services=given.service,
        days=given.days,
        renew=given.renew,
        as_json=given.json,
    )


def certs_show(given: argparse.Namespace) -> int:
    """One certificate."""
    from drystone_cli.certs import show

    return show(given.file, as_json=given.json)


def version(given: argparse.Namespace) -> int:
    """As text or JSON."""
    print(f'{{"version": "{VERSION}"}}' if given.json else f"drystone {VERSION}")
    return OK


def _settings(file: Path | None, flags: dict[str, str | None]) -> "Settings":
    from drystone_runtime.config import ConfigError, load

    try:
        return load(file=file, flags=flags)
    except ConfigError as error:
        *most, last = error.problems
        for problem in most:
            print(f"drystone: {problem}", file=sys.stderr)
        raise Failure(last, "correct all of them; `drystone config check` looks again", USAGE) from error


def _group(verbs: Any, name: str, sentence: str) -> Any:
    group = verbs.add_parser(name, help=sentence, description=_capital(sentence))
    return group.add_subparsers(metavar="VERB", required=True)


def _verb(verbs: Any, name: str, run: Any, sentence: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = verbs.add_parser(
        name, help=sentence, description=_capital(sentence), epilog=f"Exit codes: {CODES}."
    )
    parser.set_defaults(run=run)
    return parser


def _capital(sentence: str) -> str:
    return f"{sentence[0].upper()}{sentence[1:]}."


def _serve(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "directories", metavar="DIR", nargs="+", type=Path, help="one directory for everything, or the disks themselves"
    )
    parser.add_argument("--listen", metavar="HOST:PORT", help="where S3 is served (default 127.0.0.1:9000)")
    parser.add_argument("--tls-cert", metavar="FILE", help="PEM certificate chain: serve HTTPS; read anew on SIGHUP")
    parser.add_argument("--tls-key", metavar="FILE", help="PEM private key of the certificate")
    parser.add_argument("--profile", metavar="NAME", help="rs-K-M for a new store, or none for a single copy")
    parser.add_argument(
        "--add-disks", action="store_true", help="take in empty directories beside those that are disks already"
    )
    parser.add_argument(
        "--disk-classes",
        metavar="DIR=CLASS,…",
        help="classes of disks, e.g. hdd; DIR may be a pattern like '/mnt/cold*'",
    )
    parser.add_argument(
        "--state-dir", metavar="DIR", type=Path, help="sockets, pid, credential; else DIR/state or drystone-state"
    )
    _config_file(parser)


def _store(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("directory", metavar="DIR", nargs="?", type=Path, help="the store's directory (default ./data)")
    parser.add_argument(
        "--state-dir", metavar="DIR", type=Path, help="state directory of the store; else found from DIR"
    )
    _json(parser)


def _watched(parser: argparse.ArgumentParser) -> None:
    _store(parser)
    parser.add_argument("--watch", action="store_true", help="stay until the pass has ended; the exit code says how")


def _scrub_start(parser: argparse.ArgumentParser) -> None:
    _watched(parser)
    parser.add_argument("--anew", action="store_true", help="read again what a pass under way has read")


def _inspect_object(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("uri", metavar="s3://BUCKET/KEY", help="the object")
    _store(parser)
    parser.add_argument("--version-id", metavar="ID", default="", help="a version; else the current one")


def _bench(parser: argparse.ArgumentParser) -> None:
    parser.description = f"{parser.description} Credentials: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY."
    parser.add_argument("--endpoint", metavar="URL", default="http://127.0.0.1:9000", help="default %(default)s")
    parser.add_argument("--size", metavar="SIZE", default="4KiB", help="of an object, at most 64MiB (default 4KiB)")
    parser.add_argument("--connections", metavar="N", type=int, default=16, help="1 to 256 at once (default 16)")
    parser.add_argument(
        "--seconds", metavar="S", type=float, default=5.0, help="1 to 300 for each of PUT and GET (default 5)"
    )
    _json(parser)


def _layout_plan(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        f"{parser.description} DISK is an id or a unique beginning of one, or node:NAME for all disks of a storage node. "
        "Only new data obeys: what lies on a draining disk stays there, and readable, until a later release can move it."
    )
    parser.add_argument(
        "--disk", metavar="DISK", action="append", default=[], help="what the --weight beside it is for"
    )
    parser.add_argument(
        "--weight",
        metavar="SIZE",
        action="append",
        default=[],
        help="bytes the disk may take, those on it included; 0 = nothing new; `own` = its size",
    )
    parser.add_argument("--drain", metavar="DISK", action="append", default=[], help="it takes nothing new")
    parser.add_argument("--undrain", metavar="DISK", action="append", default=[], help="it takes new data again")
    parser.add_argument(
        "--level", choices=("disk", "node", "rack", "zone"), default="", help="what slots of a volume are spread over"
    )
    _store(parser)


def _certs_init(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("directory", metavar="DIR", type=Path, help="where ca.crt, ca.key and KIND-NAME.crt, .key lie")
    parser.add_argument("--cell", metavar="NAME", required=True, help="the cell: a-z, 0-9 and `-`, at most 63")
    parser.add_argument(
        "--service",
        metavar="KIND[:NAME]",
        action="append",
        required=True,
        help="gateway, metadata, storage-node, lifecycle, replication or admin, once for each service; NAME is 0 when "
        "not given. DIR/KIND-NAME.crt then names spiffe://CELL/KIND/NAME",
    )
    parser.add_argument("--days", metavar="N", type=int, default=365, help="a certificate's validity (default 365)")
    parser.add_argument("--renew", action="store_true", help="issue anew what exists already, with new keys")
    _json(parser)


def _config_file(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--config", metavar="FILE", type=Path, help="TOML; else ./drystone.toml, /etc/drystone/drystone.toml"
    )


def _json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="one JSON document on standard output")
