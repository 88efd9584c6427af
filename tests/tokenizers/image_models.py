"""Small models with random weights, saved as a user's would be, and pictures to try them on."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from tokenmill.images.image_file import ImageFile
from tokenmill.tokenizers.model_files import _quiet
from tokenmill.tokenizers.vq_models import VqModel

WEIGHTS = Path(os.environ.get("TOKENMILL_TEST_WEIGHTS", Path(__file__).resolve().parents[3] / "shared" / "weights"))


def picture(height: int, width: int, seed: int = 0) -> ImageFile:
    """A PNG with smooth parts and noise."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (5, 5, 3), dtype=np.uint8)).resize((width, height))
    noise = rng.integers(-20, 20, (height, width, 3))
    data = io.BytesIO()
    Image.fromarray(np.clip(np.asarray(coarse) + noise, 0, 255).astype(np.uint8)).save(data, "PNG")
    return ImageFile(data.getvalue())


PICTURES = [picture(50, 70), picture(16, 16, 1), picture(200, 33, 2), picture(64, 64, 3)]


def _chameleon() -> Any:
    from transformers import ChameleonVQVAE, ChameleonVQVAEConfig

    return ChameleonVQVAE(
        ChameleonVQVAEConfig(
            embed_dim=8,
            num_embeddings=300,
            latent_channels=8,
            resolution=32,
            base_channels=32,
            channel_multiplier=[1, 1, 2],
            num_res_blocks=1,
        )
    )


def _emu3() -> Any:
    from transformers import Emu3VQVAE, Emu3VQVAEConfig

    return Emu3VQVAE(
        Emu3VQVAEConfig(
            codebook_size=200,
            embed_dim=4,
            latent_channels=4,
            temporal_downsample_factor=4,
            base_channels=32,
            channel_multiplier=[1, 1, 2],
            num_res_blocks=1,
            attn_resolutions=[2],
            hidden_size=64,
        )
    )


def _janus() -> Any:
    from transformers import JanusVQVAE, JanusVQVAEConfig

    return JanusVQVAE(
        JanusVQVAEConfig(
            embed_dim=8,
            num_embeddings=500,
            latent_channels=8,
            base_channels=32,
            channel_multiplier=[1, 2],
            num_res_blocks=1,
            num_patches=8,
        )
    )


def _vq(**options: Any) -> Any:
    from diffusers import VQModel

    return VQModel(
        down_block_types=("DownEncoderBlock2D", "DownEncoderBlock2D"),
        up_block_types=("UpDecoderBlock2D", "UpDecoderBlock2D"),
        block_out_channels=(32, 32),
        latent_channels=4,
        num_vq_embeddings=128,
        sample_size=16,
        **options,
    )


def _tiny() -> Any:
    from diffusers import AutoencoderTiny

    return AutoencoderTiny(
        encoder_block_out_channels=(16, 16, 16),
        decoder_block_out_channels=(16, 16, 16),
        num_encoder_blocks=(1, 1, 1),
        num_decoder_blocks=(1, 1, 1),
        latent_channels=8,
    )


def _kl() -> Any:
    from diffusers import AutoencoderKL

    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D", "DownEncoderBlock2D"),
        up_block_types=("UpDecoderBlock2D", "UpDecoderBlock2D"),
        block_out_channels=(32, 32),
        latent_channels=4,
        sample_size=16,
    )


def _dc() -> Any:
    from diffusers import AutoencoderDC

    return AutoencoderDC(
        latent_channels=8,
        attention_head_dim=4,
        encoder_block_types=("ResBlock", "EfficientViTBlock"),
        decoder_block_types=("ResBlock", "EfficientViTBlock"),
        encoder_block_out_channels=(8, 16),
        decoder_block_out_channels=(8, 16),
        encoder_layers_per_block=(1, 1),
        decoder_layers_per_block=(1, 1),
        encoder_qkv_multiscales=((), (5,)),
        decoder_qkv_multiscales=((), (5,)),
    )


MAKERS: dict[str, Callable[[], Any]] = {
    "chameleon": _chameleon,
    "emu3": _emu3,
    "janus": _janus,
    "vq": _vq,
    "vq-lookup": lambda: _vq(lookup_from_codebook=True),
    "vq-spatial": lambda: _vq(norm_type="spatial"),
    "tiny": _tiny,
    "kl": _kl,
    "dc": _dc,
}


def save(model: Any, directory: Path, **options: Any) -> None:
    """Save a model without the library's progress bar."""
    with _quiet("transformers"):
        model.save_pretrained(directory, **options)


@pytest.fixture(scope="session")
def saved_model(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Return a function that gives a model's directory, made once."""
    root = tmp_path_factory.mktemp("models")

    def saved(name: str) -> Path:
        directory = root / name
        if not directory.exists():
            torch.manual_seed(0)
            model = MAKERS[name]().eval()
            if hasattr(model, "quantize"):
                _spread_codes(model)
            save(model, directory)
        return directory

    return saved


def _spread_codes(model: Any) -> None:
    """Lay the codes over the network's own vectors: of an untrained codebook, one code is nearest to all."""
    seen: list[torch.Tensor] = []
    hook = model.quantize.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    kind = getattr(model.config, "model_type", "VQModel")
    pixels = torch.randint(0, 256, (1, 32, 32, 3), dtype=torch.uint8)
    with torch.no_grad():
        VqModel(model, kind, "float32", torch.device("cpu")).encode(pixels)
        hook.remove()
        codes = model.quantize.embedding.weight
        vectors = seen[0].reshape(codes.shape[1], -1)
        codes.copy_(vectors.mean(1) + vectors.std(1) * torch.randn_like(codes))
