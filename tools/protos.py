"""Generate the Python code of the contract, and lint the contract.

``python tools/protos.py`` writes ``client/vzero/v1``; ``--check`` writes nothing
and fails when what is checked in differs; ``--lint`` runs ``buf lint``.

The rules of protovalidate live in the options of the messages. The server reads
them from the descriptors; a client must not need the package that defines them.
So the generated modules keep the options but not the import of
``buf/validate/validate.proto``.
"""

import argparse
import filecmp
import subprocess
import sys
import tempfile
from pathlib import Path

from google.protobuf import (
    descriptor_pb2,
    duration_pb2,
    field_mask_pb2,
    timestamp_pb2,
)
from protovalidate._gen.buf.validate import validate_pb

ROOT = Path(__file__).resolve().parent.parent
PROTOS = ROOT / "protos"
GENERATED = ROOT / "client" / "vzero" / "v1"
VALIDATE = "buf/validate/validate.proto"


def sources() -> list[str]:
    """Names of the contract's files, relative to ``protos/``."""
    return sorted(str(path.relative_to(PROTOS)) for path in PROTOS.rglob("*.proto"))


def protoc(*arguments: str) -> None:
    """Run the protoc of grpcio-tools; leave with its exit code when it fails."""
    done = subprocess.run([sys.executable, "-m", "grpc_tools.protoc", *arguments], check=False)
    if done.returncode:
        raise SystemExit(done.returncode)


def compile_image(folder: Path) -> Path:
    """Compile the contract to a descriptor set with comments and all imports."""
    imports = descriptor_pb2.FileDescriptorSet()
    for module in (descriptor_pb2, duration_pb2, field_mask_pb2, timestamp_pb2):
        module.DESCRIPTOR.CopyToProto(imports.file.add())
    # protovalidate ships its definitions as a descriptor, not as a proto file.
    imports.file.add().ParseFromString(validate_pb.desc().proto.to_binary())
    (folder / "imports.binpb").write_bytes(imports.SerializeToString())
    image = folder / "image.binpb"
    protoc(
        f"--descriptor_set_in={folder / 'imports.binpb'}",
        f"--proto_path={PROTOS}",
        f"--descriptor_set_out={image}",
        "--include_imports",
        "--include_source_info",
        *sources(),
    )
    return image


def generate(image: Path, out: Path) -> None:
    """Write modules and type stubs for the contract below ``out``."""
    files = descriptor_pb2.FileDescriptorSet.FromString(image.read_bytes())
    light = descriptor_pb2.FileDescriptorSet()
    for file in files.file:
        if file.name == VALIDATE:
            continue
        kept = [name for name in file.dependency if name != VALIDATE]
        del file.dependency[:]
        file.dependency.extend(kept)
        light.file.add().CopyFrom(file)
    (out / "light.binpb").write_bytes(light.SerializeToString())
    protoc(
        f"--descriptor_set_in={out / 'light.binpb'}",
        f"--python_out={out}",
        f"--grpc_python_out={out}",
        f"--mypy_out={out}",
        f"--mypy_grpc_out={out}",
        *sources(),
    )


def lint(image: Path) -> int:
    """Run ``buf lint`` on the contract."""
    command = ["buf", "lint", str(image), "--config", str(PROTOS / "buf.yaml")]
    return subprocess.run(command, check=False).returncode


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="fail on drift, write nothing")
    parser.add_argument("--lint", action="store_true", help="run buf lint, write nothing")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        image = compile_image(folder)
        if options.lint:
            return lint(image)
        generate(image, folder)
        made = sorted((folder / "vzero" / "v1").iterdir())
        if options.check:
            drifted = [
                path.name
                for path in made
                if not (GENERATED / path.name).exists()
                or not filecmp.cmp(path, GENERATED / path.name, shallow=False)
            ]
            if drifted:
                print(f"generated code drifted, run 'make protos': {', '.join(drifted)}")
            return 1 if drifted else 0
        for path in made:
            (GENERATED / path.name).write_bytes(path.read_bytes())
            print(f"wrote {GENERATED.relative_to(ROOT) / path.name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
