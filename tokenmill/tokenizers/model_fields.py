"""Configs of tokenizers whose network is a model directory: the fields that say where it is."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from tokenmill.contract import Tokenizer
from tokenmill.registry import missing_extra
from tokenmill.tokenizers.hub_files import REVISION
from tokenmill.tokenizers.model_files import ModelPlace

if TYPE_CHECKING:
    import torch


class ModelFields(Tokenizer):
    """Base of the configs of tokenizers over a model of transformers or diffusers."""

    locations: ClassVar[frozenset[str]] = frozenset({"directory", "hub_id", "revision", "subfolder"})

    directory: str | None = None
    """A model directory as `save_pretrained` writes it: `config.json` and safetensors files."""
    hub_id: str | None = None
    """Repository on the Hugging Face hub, such as `org/model`; fetched when the job is planned."""
    revision: str | None = Field(default=None, pattern=REVISION)
    """Full commit hash (40 hexadecimal digits): a branch or tag could mean another model tomorrow."""
    subfolder: str | None = Field(default=None, pattern=r"^[\w-]+(/[\w-]+)*$")
    """Folder of the directory or repository that holds the model, such as `vae`; default: itself."""

    def place(self) -> ModelPlace:
        """Return where the model is."""
        return ModelPlace(self.id, self.directory, self.hub_id, self.revision, self.subfolder)

    def _device(self, device: str) -> torch.device:
        """Return the device to run on; raises MissingExtraError where there is no torch, TokenizerError for another."""
        try:
            from tokenmill.tokenizers.networks import network_device
        except ModuleNotFoundError as error:
            raise missing_extra(error, f"tokenizer {self.id!r}") from error
        return network_device(device, self.id)

    def _check_place(self, given: int) -> None:
        """Check the fields that say where the model is, `given` of which exclude each other; raises ValueError."""
        if given != 1:
            raise ValueError("give exactly one of `directory` and `hub_id`")
        if (self.hub_id is None) != (self.revision is None):
            raise ValueError("`hub_id` needs a `revision`: the full hash of a commit; and a `revision` a `hub_id`")
