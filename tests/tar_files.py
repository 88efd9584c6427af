"""Tar files of some members, as WebDataset has them."""

from __future__ import annotations

import io
import tarfile


def as_tar(members: dict[str, bytes]) -> bytes:
    """Return a tar file with these members, in their order."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        for name, data in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return file.getvalue()
