"""Build contexts, as pure values: the same input gives the same bytes, whatever the checkout's modes and times are."""

import hashlib
import io
import tarfile
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Final

from supervisor.paths import CHECKOUT

RECIPES: Final = CHECKOUT / "images"

# Within the range of every archive format; which instant it is has no meaning.
_FIXED_TIME: Final = 315_532_800


def recipe(name: str) -> bytes:
    """A file below ``images/``."""
    return (RECIPES / name).read_bytes()


def dockerfile(kind: str, parent: str) -> bytes:
    """The Dockerfile of a kind of image, over the image ``parent``."""
    return recipe(f"{kind}/Dockerfile").replace(b"ARG BASE\n", f"ARG BASE={parent}\n".encode(), 1)


def digest(*parts: bytes) -> str:
    """Twelve hexadecimal digits that stand for these parts in this order."""
    whole = hashlib.sha256()
    for part in parts:
        whole.update(len(part).to_bytes(8, "big") + part)
    return whole.hexdigest()[:12]


def trusted_contract() -> dict[str, bytes]:
    """The part of the trusted tree that every worker image holds, by path."""
    package = CHECKOUT / "supervisor"
    sources = [package / "__init__.py", *sorted((package / "contract").glob("*.py"))]
    return {str(source.relative_to(CHECKOUT)): source.read_bytes() for source in sources}


def contract_hash(contract: Mapping[str, bytes]) -> str:
    """A short digest of names and contents."""
    return digest(*(part for path in sorted(contract) for part in (path.encode(), contract[path])))


def worker_context(parent_id: str, files: Mapping[str, bytes], labels: Mapping[str, str]) -> bytes:
    """The build context that puts a whole source below /app over the image ``parent_id``; the same bytes each time."""
    return _context("worker", parent_id, files, labels)


def patch_context(parent_id: str, files: Mapping[str, bytes], labels: Mapping[str, str]) -> bytes:
    """The like for the files that a patch adds to the source in the image ``parent_id``, or replaces there."""
    return _context("patch", parent_id, files, labels)


def patch_layer(old: Mapping[str, bytes], new: Mapping[str, bytes]) -> dict[str, bytes] | None:
    """The files of ``new`` that differ from ``old``; None when a layer over ``old`` cannot make ``new``.

    A layer of added files takes nothing away, and an empty one cannot be built.
    """
    if old.keys() - new.keys():
        return None
    return {path: content for path, content in new.items() if old.get(path) != content} or None


def tar_of(files: Mapping[str, bytes]) -> bytes:
    """A tar of read-only files and directories that belong to root, the same bytes each time."""
    directories = {str(parent) for path in files for parent in PurePosixPath(path).parents} - {"."}
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for path in sorted(directories | files.keys()):
            member = tarfile.TarInfo(path)
            member.mtime = _FIXED_TIME
            if path in files:
                member.mode, member.size = 0o444, len(files[path])
                tar.addfile(member, io.BytesIO(files[path]))
            else:
                member.mode, member.type = 0o555, tarfile.DIRTYPE
                tar.addfile(member)
    return buffer.getvalue()


def _context(kind: str, parent_id: str, files: Mapping[str, bytes], labels: Mapping[str, str]) -> bytes:
    written = " ".join(f'{name}="{_escaped(value)}"' for name, value in sorted(labels.items()))
    text = dockerfile(kind, parent_id) + f"LABEL {written}\n".encode()
    return tar_of({"Dockerfile": text, **{f"app/{path}": content for path, content in files.items()}})


def _escaped(value: str) -> str:
    """``value`` as it stands between double quotes in a Dockerfile."""
    return "".join(f"\\{character}" if character in '"\\$' else character for character in value)
