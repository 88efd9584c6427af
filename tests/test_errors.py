import pickle

import pytest

from tokenmill import errors
from tokenmill.errors import AssetError, ItemError, JobError, RunError, StorageError, TokenmillError, error_from_json

KINDS = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, TokenmillError)]


@pytest.mark.parametrize("kind", KINDS)
def test_errors_cross_processes(kind: type[TokenmillError]) -> None:
    error = (
        ItemError("damaged", "it broke", lost_seconds=1.5, where="s3://b/x", fix="mend it")
        if kind is ItemError
        else kind("it broke", where="s3://b/x", fix="mend it")
    )
    for copy in (pickle.loads(pickle.dumps(error)), error_from_json(error.to_json())):
        assert type(copy) is kind
        assert (copy.what, copy.where, copy.fix, str(copy)) == (error.what, error.where, error.fix, str(error))
        assert getattr(copy, "reason", None) == getattr(error, "reason", None)
        assert getattr(copy, "lost_seconds", 0.0) == getattr(error, "lost_seconds", 0.0)
    assert str(error) == "s3://b/x: it broke\n  → mend it"


def test_message_without_place_or_remedy() -> None:
    assert str(RunError("it broke")) == "it broke"
    assert str(RunError("it broke", fix="mend it")) == "it broke\n  → mend it"


def test_kinds_that_are_not_known_here_become_run_errors() -> None:
    for kind in ("SomeFutureError", "Any", "annotations"):
        error = error_from_json({"kind": kind, "what": "it broke", "where": None, "fix": None})
        assert type(error) is RunError


def test_exit_codes_tell_kinds_apart() -> None:
    assert JobError("x").exit_code == AssetError("x").exit_code == 2
    assert StorageError("x").exit_code == 3
    assert {kind.exit_code for kind in KINDS} == {1, 2, 3, 4, 5, 6}
