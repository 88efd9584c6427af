"""Uris: what of them is the filesystem and what the path; how paths are joined. No file is touched here."""

from __future__ import annotations

import os
from dataclasses import dataclass

from tokenmill.errors import ConfigurationError

#: Schemes of the two kinds of storage that tokenmill knows itself; all others are left to fsspec.
LOCAL_SCHEMES = ("", "file", "local")
S3_SCHEMES = ("s3", "s3a")


@dataclass(frozen=True, slots=True)
class Location:
    """A uri taken apart.

    Attributes:
        scheme: `file`, `s3`, or any other of fsspec's.
        path: Local: an absolute path. S3: `bucket/key`. Others: what follows `://`.
    """

    scheme: str
    path: str

    @property
    def uri(self) -> str:
        """The uri: a plain path where it is local."""
        return self.path if self.scheme == "file" else f"{self.scheme}://{self.path}"


def parse(uri: str) -> Location:
    """Take a uri apart; relative local paths resolve against the working directory.

    Raises:
        ConfigurationError: For an empty or chained uri, one that carries credentials, or one without a bucket.
    """
    scheme, separator, rest = uri.partition("://")
    if not separator:
        scheme, rest = "", uri
    if not rest:
        raise ConfigurationError("the uri is empty", where=uri or "''", fix="give a path, or s3://bucket/prefix")
    if "::" in uri and separator:
        raise ConfigurationError("chained uris are not supported", where=_without_secrets(uri))
    scheme = scheme.lower()
    if scheme in LOCAL_SCHEMES:
        # Made absolute but not resolved: a link in the user's tree keeps its name.
        return Location("file", os.path.abspath(os.path.expanduser(rest)))  # noqa: PTH100, PTH111
    authority = rest.partition("/")[0]
    if "@" in authority:
        raise ConfigurationError(
            "the uri carries credentials, which would end up in plans and logs",
            where=_without_secrets(uri),
            fix="remove them from the uri and set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
            if scheme in S3_SCHEMES
            else "remove them from the uri and give them through the environment",
        )
    if scheme in S3_SCHEMES:
        if not authority:
            raise ConfigurationError("the uri names no bucket", where=uri, fix="write s3://bucket/prefix")
        return Location("s3", rest)
    return Location(scheme, rest)


def join(root: str, path: str) -> str:
    """Append a relative path to a root uri."""
    if not path:
        return root
    return f"{root}{path}" if root.endswith("/") else f"{root}/{path}"


def _without_secrets(uri: str) -> str:
    scheme, _, rest = uri.partition("://")
    authority, slash, path = rest.partition("/")
    return f"{scheme}://***@{authority.rpartition('@')[2]}{slash}{path}" if "@" in authority else uri
