"""Files of a pinned revision on the Hugging Face hub, from its local cache where they are there.

Only single files by name are fetched, at planning; nothing of a repository is ever run.
"""

from __future__ import annotations

from pathlib import Path

from tokenmill.errors import AssetError
from tokenmill.registry import missing_extra

#: Pattern of a revision: a full commit hash, for a branch or tag could mean other files tomorrow.
REVISION = r"^[0-9a-f]{40}$"


def hub_file(hub_id: str, revision: str, names: tuple[str, ...], tokenizer: str) -> Path:
    """Return the path of a file in the hub's local cache, fetching it if it is not there.

    Args:
        hub_id: Repository, such as `org/model`.
        revision: Full commit hash.
        names: The file's path inside the repository; of several, the first that the cache or else the hub has.
        tokenizer: Id of the tokenizer that wants it, for messages.

    Raises:
        AssetError: The revision has no such file, or the hub cannot be reached.
        MissingExtraError: The hub's library is not installed.
    """
    try:
        from huggingface_hub import hf_hub_download, try_to_load_from_cache
        from huggingface_hub.errors import (
            EntryNotFoundError,
            HfHubHTTPError,
            HFValidationError,
            LocalEntryNotFoundError,
        )
    except ModuleNotFoundError as error:
        raise missing_extra(error, f"tokenizer {tokenizer!r} with a `hub_id`") from error
    where = f"{hub_id}@{revision}"
    name = names[0]
    try:
        for name in names:
            cached = try_to_load_from_cache(hub_id, name, revision=revision)
            if isinstance(cached, str):
                return Path(cached)
        for name in names:
            try:
                return Path(hf_hub_download(hub_id, name, revision=revision))
            except LocalEntryNotFoundError:  # no network: whether there is such a file nobody knows
                raise
            except EntryNotFoundError:
                continue
    except (HfHubHTTPError, HFValidationError, OSError) as error:
        raise AssetError(
            f"cannot fetch this tokenizer: {error}",
            where=f"{where}/{name}",
            fix="check the name, the revision, the network and HF_TOKEN; or give a local path",
        ) from error
    raise AssetError(f"this revision has no {' and no '.join(names)}", where=where)
