"""Every error that tokenmill raises on purpose, in one hierarchy.

An error says what happened, where (uri, key, offset), and what to do. Nothing else lives here: code that
catches, retries or prints belongs to its caller.
"""

from __future__ import annotations

from typing import Any


class TokenmillError(Exception):
    """Base of all errors raised on purpose.

    Args:
        what: One sentence: what is wrong, with what was given and what was expected.
        where: The place: a uri, a key, an offset, a path inside a job.
        fix: What the reader can do about it.
    """

    #: Exit status of the commands for an error of this kind; documented in docs/commands.md.
    exit_code = 1

    def __init__(self, what: str, *, where: str | None = None, fix: str | None = None) -> None:
        self.what = what
        self.where = where
        self.fix = fix
        super().__init__(what, where, fix)

    def __str__(self) -> str:
        text = self.what if self.where is None else f"{self.where}: {self.what}"
        return text if self.fix is None else f"{text}\n  → {self.fix}"

    def __reduce__(self) -> tuple[object, ...]:
        return (error_from_json, (self.to_json(),))

    def to_json(self) -> dict[str, Any]:
        """Return the error as JSON, for other processes: `error_from_json` makes it again."""
        return {"kind": type(self).__name__, "what": self.what, "where": self.where, "fix": self.fix}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> TokenmillError:
        """Make an error of this kind again from its JSON form."""
        return cls(value["what"], where=value["where"], fix=value["fix"])


def error_from_json(value: dict[str, Any]) -> TokenmillError:
    """Make an error again from its JSON form; a kind unknown here becomes a RunError."""
    kind = globals().get(value["kind"])
    if not (isinstance(kind, type) and issubclass(kind, TokenmillError)):
        kind = RunError
    return kind.from_json(value)


class ConfigurationError(TokenmillError):
    """A configuration is refused before anything is written."""

    exit_code = 2


class JobError(ConfigurationError):
    """A job description does not validate."""


class TokenizerError(ConfigurationError):
    """A tokenizer is unknown, is declared twice, or its configuration cannot work."""


class MissingExtraError(ConfigurationError):
    """An optional dependency is absent; the message names the extra to install."""


class AssetError(ConfigurationError):
    """A vocabulary or weight file is absent, corrupt, or not the one that was planned."""


class InputError(ConfigurationError):
    """A source matches nothing, cannot be listed, or cannot be read at all."""


class LoaderError(ConfigurationError):
    """A loader cannot do what it is asked: a window longer than the data, a state of other data, a mix that clashes."""


class ChangedError(ConfigurationError):
    """An output already holds something that this run contradicts; the message names the difference."""


class StorageError(TokenmillError):
    """A storage operation failed: permissions, credentials, a missing bucket, a full disk, a dead server."""

    exit_code = 3


class UnavailableError(StorageError):
    """A storage server did not answer, or failed, for as long as it was tried."""


class MissingFileError(StorageError):
    """A file that should be on storage is not there."""


class ItemError(TokenmillError):
    """One item cannot be decoded or tokenized: it is quarantined, the others go on.

    Args:
        reason: A snake_case word, by which rejects are counted.
        what: One sentence: what is wrong with it.
        lost_seconds: Of a recording, how many seconds have no row: those announced, or those read where none were.
    """

    def __init__(
        self,
        reason: str,
        what: str,
        *,
        lost_seconds: float = 0.0,
        where: str | None = None,
        fix: str | None = None,
    ) -> None:
        self.reason = reason
        self.lost_seconds = lost_seconds
        super().__init__(what, where=where, fix=fix)

    def to_json(self) -> dict[str, Any]:
        """Return the error as JSON, its reason and what is lost included."""
        return {**super().to_json(), "reason": self.reason, "lost_seconds": self.lost_seconds}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> ItemError:
        """Make the error again from its JSON form."""
        lost_seconds = value["lost_seconds"]
        return cls(value["reason"], value["what"], lost_seconds=lost_seconds, where=value["where"], fix=value["fix"])


class SpecError(TokenmillError):
    """An encoder returned something that its declared stream specs do not allow."""


class CorruptionError(TokenmillError):
    """Bytes on storage are not those that were published."""

    exit_code = 4


class RejectedFractionError(TokenmillError):
    """More items were rejected than the job allows; nothing is published."""

    exit_code = 5


class RunError(TokenmillError):
    """A pipeline run ended without finishing its work: a worker died, or the runner failed."""

    exit_code = 6


class DatasetError(TokenmillError):
    """A uri holds no published dataset, or not the table that was asked for."""
