# SPDX-License-Identifier: Apache-2.0
"""Generates libs/drystone-wire from proto/, or with --check says whether it is stale.

The generator is the pinned grpcio-tools of requirements/dev.lock; its output is checked in, so that using and installing
Drystone needs no compiler.
"""

import filecmp
import shutil
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PROTO = ROOT / "proto"
TARGET = ROOT / "libs" / "drystone-wire" / "src"


def generate(target: Path) -> list[Path]:
    """Compile every contract into `target`; returns the files made, relative to it."""
    from grpc_tools import protoc

    well_known = Path(protoc.__file__).parent / "_proto"
    sources = sorted(str(path.relative_to(PROTO)) for path in PROTO.rglob("*.proto"))
    outputs = [f"--{kind}_out={target}" for kind in ("python", "pyi", "grpc_python")]
    if protoc.main(["protoc", f"-I{PROTO}", f"-I{well_known}", *outputs, *sources]) != 0:
        raise SystemExit(1)
    for path in list(target.rglob("*_pb2_grpc.py")):
        if "Servicer" not in path.read_text():
            path.unlink()  # a contract without a service
    for folder in {path.parent for path in target.rglob("*_pb2.py")}:
        (folder / "py.typed").touch()
    return sorted(path.relative_to(target) for path in target.rglob("*") if path.is_file())


def main() -> int:
    """Regenerate, or compare."""
    with tempfile.TemporaryDirectory() as folder:
        fresh = generate(Path(folder))
        if "--check" in sys.argv[1:]:
            present = sorted(
                path.relative_to(TARGET)
                for path in (TARGET / "drystone").rglob("*")
                if path.is_file() and "__pycache__" not in path.parts
            )
            stale = sorted(set(fresh) ^ set(present))
            stale += [p for p in fresh if p in present and not filecmp.cmp(Path(folder) / p, TARGET / p, shallow=False)]
            for path in stale:
                print(f"stale: libs/drystone-wire/src/{path}; run `make proto`", file=sys.stderr)
            return 1 if stale else 0
        shutil.rmtree(TARGET / "drystone", ignore_errors=True)
        shutil.copytree(Path(folder) / "drystone", TARGET / "drystone")
    return 0


if __name__ == "__main__":
    sys.exit(main())
