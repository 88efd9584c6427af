"""Model directories as transformers and diffusers write them: found, hashed, and loaded without running code of theirs.

Only `config.json` and safetensors files are taken, from a local directory or a pinned revision on the Hugging Face hub,
and the libraries are shown a directory of nothing else: what is hashed is what is loaded.
"""

from __future__ import annotations

import importlib
import json
import logging
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from tokenmill.contract import Asset, hash_file
from tokenmill.errors import AssetError, TokenizerError
from tokenmill.registry import missing_extra
from tokenmill.tokenizers.hub_files import hub_file

_CONFIG = "config.json"


@dataclass(frozen=True)
class Architecture:
    """A class of model.

    Attributes:
        name: As `config.json` names it.
        library: What has the class.
        class_name: Its name there.
    """

    name: str
    library: Literal["transformers", "diffusers"]
    class_name: str

    @property
    def weights(self) -> str:
        """How the library names files of weights, less their suffix."""
        return "model" if self.library == "transformers" else "diffusion_pytorch_model"


@dataclass(frozen=True)
class ModelPlace:
    """Where a model's files are: a directory, or a repository on the hub at a commit.

    Attributes:
        tokenizer: Id of the tokenizer that wants it, for messages.
        directory: A local path, or None.
        hub_id: Repository, such as `org/model`, or None.
        revision: Full commit hash, or None.
        subfolder: Folder below either, or None.
    """

    tokenizer: str
    directory: str | None = None
    hub_id: str | None = None
    revision: str | None = None
    subfolder: str | None = None

    def config(self) -> dict[str, Any]:
        """Return what `config.json` holds; raises AssetError where there is none."""
        return _read_json(self._path(_CONFIG))

    def numbers(self, name: str, default: tuple[int, ...]) -> tuple[int, ...]:
        """Return a field of `config.json` that holds positive whole numbers, or one; raises AssetError otherwise.

        Args:
            name: The field.
            default: The library's own: transformers leaves out of the file what has its default.
        """
        found = self.config().get(name, default)
        numbers = tuple(found) if isinstance(found, list | tuple) else (found,)
        if not numbers or not all(type(number) is int and 0 < number < 1 << 31 for number in numbers):
            raise AssetError(f"`{name}` is {found!r}, no positive number", where=str(self._path(_CONFIG)))
        return numbers

    def architecture(self, known: Mapping[str, Architecture]) -> Architecture:
        """Return the architecture that `config.json` names; raises TokenizerError where it is none of `known`."""
        config = self.config()
        name = config.get("_class_name", config.get("model_type"))
        if not isinstance(name, str) or name not in known:
            raise TokenizerError(
                f"tokenizer {self.tokenizer!r} knows no model of the kind {name!r}",
                where=str(self._path(_CONFIG)),
                fix=f"give a model whose {_CONFIG} says one of: {', '.join(sorted(known))}",
            )
        if self.numbers("in_channels", (3,)) != (3,):
            raise TokenizerError("this model takes no images of 3 channels", where=str(self._path(_CONFIG)))
        return known[name]

    def assets(self, architecture: Architecture) -> dict[str, Asset]:
        """Hash the files that loading the model takes; raises AssetError where one is missing."""
        return {name: hash_file(path, self._location(name)) for name, path in self._files(architecture).items()}

    def other_file(self, name: str) -> tuple[Path, Asset]:
        """Find and hash a file that the model's class does not read itself; raises AssetError where it is missing."""
        path = self._path(name)
        return path, hash_file(path, self._location(name))

    def load(self, architecture: Architecture) -> Any:
        """Load the model in float32, on the CPU, for inference; raises AssetError where its weights do not fit it."""
        try:
            library = importlib.import_module(architecture.library)
            kind = getattr(library, architecture.class_name)
        except ModuleNotFoundError as error:
            raise missing_extra(error, f"tokenizer {self.tokenizer!r}") from error
        files = self._files(architecture)
        with tempfile.TemporaryDirectory(prefix="tokenmill-") as sealed, _quiet(architecture.library):
            for name, path in files.items():
                (Path(sealed) / name).symlink_to(path.resolve())
            model, keys = _from_pretrained(kind, sealed, architecture, where=self._where())
        _check_keys(keys, architecture, where=self._where())
        return model.eval().requires_grad_(False)

    def _files(self, architecture: Architecture) -> dict[str, Path]:
        whole = f"{architecture.weights}.safetensors"
        index = f"{whole}.index.json"
        path = self._path(whole, index)
        files = {_CONFIG: self._path(_CONFIG), path.name: path}
        if path.name == index:
            shards = _read_json(path).get("weight_map")
            names = sorted(set(shards.values())) if isinstance(shards, dict) else []
            if not names or not all(
                isinstance(name, str) and name.endswith(".safetensors") and Path(name).name == name for name in names
            ):
                raise AssetError("this index names no safetensors files beside it", where=str(path))
            files |= {name: self._path(name) for name in names}
        return files

    def _path(self, *names: str) -> Path:
        """Return the path of the first of these files that there is."""
        if self.hub_id is not None:
            inside = tuple(f"{self.subfolder}/{name}" if self.subfolder else name for name in names)
            return hub_file(self.hub_id, str(self.revision), inside, self.tokenizer)
        folder = Path(str(self.directory)) / (self.subfolder or "")
        for name in names:
            if (folder / name).is_file():
                return folder / name
        raise AssetError(
            f"there is no {' and no '.join(names)} in this directory",
            where=str(folder),
            fix="give a directory as `save_pretrained` writes it, with safetensors weights",
        )

    def _location(self, name: str) -> str | None:
        if self.hub_id is None:
            return None
        return f"hub:{self._where()}/{name}"

    def _where(self) -> str:
        place = self.directory if self.hub_id is None else f"{self.hub_id}@{self.revision}"
        return f"{place}/{self.subfolder}" if self.subfolder else str(place)


def _from_pretrained(kind: Any, directory: str, architecture: Architecture, where: str) -> tuple[Any, dict[str, Any]]:
    import torch

    # Loading without accelerate, with which diffusers would warn that it is missing.
    options = {"low_cpu_mem_usage": False} if architecture.library == "diffusers" else {"dtype": torch.float32}
    try:
        model, keys = kind.from_pretrained(
            directory, local_files_only=True, use_safetensors=True, output_loading_info=True, **options
        )
    except Exception as error:
        raise AssetError(
            f"{architecture.library} cannot load this {architecture.class_name}: {type(error).__name__}: "
            f"{str(error)[:300]}",
            where=where,
            fix="give the directory that `save_pretrained` of this class wrote, whole",
        ) from error
    return model.float(), keys


def _check_keys(keys: Mapping[str, Any], architecture: Architecture, where: str) -> None:
    """Refuse weights that the library would have made up, or left out: both are another model."""
    for problem in ("missing_keys", "mismatched_keys", "unexpected_keys"):
        found = sorted(str(key) for key in keys.get(problem) or ())
        if found:
            raise AssetError(
                f"these weights are not those of the {architecture.class_name} that {_CONFIG} describes: "
                f"{len(found)} {problem.replace('_', ' ')}, such as {found[0]}",
                where=where,
                fix="give the directory that `save_pretrained` of this class wrote",
            )


@contextmanager
def _quiet(library: str) -> Iterator[None]:
    """Keep a library's log, warnings and progress bars out of a worker's output while it loads a model."""
    logger = logging.getLogger(library)
    bars = importlib.import_module(f"{library}.utils.logging")
    level, shown = logger.level, bars.is_progress_bar_enabled()
    logger.setLevel(logging.CRITICAL)
    bars.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
        if shown:
            bars.enable_progress_bar()


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise AssetError(f"cannot be read as JSON: {error}", where=str(path)) from error
    if not isinstance(content, dict):
        raise AssetError(f"holds {type(content).__name__} in place of an object", where=str(path))
    return content
