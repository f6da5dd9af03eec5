"""Generates libs/proto from the contracts in this folder.

protoc derives Python imports from the proto path, so it writes `from aetheris.ledger.v1 import …`.
`aetheris` is the SDK, so the root is renamed to `aetheris_proto`, in the imports and in the module
string that the message classes carry (without it they stop pickling). The wire keeps
`aetheris.ledger.v1`.
"""

from __future__ import annotations

import re
import shutil
import sys
import tempfile
from pathlib import Path

import grpc_tools
from grpc_tools import protoc

HERE = Path(__file__).parent
OUT = HERE.parent / "libs" / "proto" / "src" / "aetheris_proto"


def rename_root(text: str) -> str:
    text = re.sub(r"^from aetheris\.", "from aetheris_proto.", text, flags=re.MULTILINE)
    text = re.sub(r"^import aetheris\.", "import aetheris_proto.", text, flags=re.MULTILINE)
    return re.sub(r"(BuildTopDescriptorsAndMessages\(DESCRIPTOR, )'aetheris\.", r"\1'aetheris_proto.", text)


def generate(into: Path) -> None:
    protos = sorted(str(path.relative_to(HERE)) for path in HERE.rglob("*.proto"))
    well_known = Path(grpc_tools.__file__).parent / "_proto"
    with tempfile.TemporaryDirectory() as raw:
        code = protoc.main(
            ["protoc", f"-I{HERE}", f"-I{well_known}", f"--python_out={raw}", f"--pyi_out={raw}",
             f"--grpc_python_out={raw}", *protos]
        )  # fmt: skip
        if code != 0:
            sys.exit(code)
        for made in sorted(Path(raw).rglob("*.py*")):
            target = into / made.relative_to(Path(raw) / "aetheris")
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(rename_root(made.read_text()))
    for folder in {
        into,
        *(parent for file in into.rglob("*_pb2.py") for parent in file.parents if into in parent.parents),
    }:
        (folder / "__init__.py").touch()
    (into / "__init__.py").write_text('"""The wire, generated from proto/. Do not edit: `make proto`."""\n')
    (into / "py.typed").touch()


def differs(fresh: Path) -> list[str]:
    made = {p.relative_to(fresh) for p in fresh.rglob("*.py*") if p.is_file()}
    kept = {p.relative_to(OUT) for p in OUT.rglob("*.py*") if p.is_file() and "__pycache__" not in p.parts}
    changed = [p for p in made & kept if (fresh / p).read_bytes() != (OUT / p).read_bytes()]
    return sorted(str(p) for p in [*(made ^ kept), *changed])


def main() -> None:
    if "--check" not in sys.argv[1:]:
        shutil.rmtree(OUT, ignore_errors=True)
        generate(OUT)
        return
    with tempfile.TemporaryDirectory() as fresh:
        generate(Path(fresh))
        stale = differs(Path(fresh))
    if stale:
        sys.exit("libs/proto is older than proto/: run `make proto`\n  " + "\n  ".join(stale))


if __name__ == "__main__":
    main()
