from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from tests.tokenizers.image_models import PICTURES
from tokenmill.contract import resolve
from tokenmill.errors import AssetError
from tokenmill.images.geometry import Geometry
from tokenmill.testing import Case, check_tokenizer
from tokenmill.tokenizers.latent import LatentTokenizer
from tokenmill.tokenizers.tiny_autoencoder import EncoderLayout, load_pair, read_layout

State = dict[str, torch.Tensor]


class Block(nn.Module):
    """A residual block as TAESD describes it, with the newer pooling branch."""

    def __init__(self, width: int, pool: bool) -> None:
        super().__init__()
        self.conv = nn.Sequential(_conv(width, width), nn.ReLU(), _conv(width, width), nn.ReLU(), _conv(width, width))
        self.pool: nn.Module | None = None
        if pool:
            wide = nn.Conv2d(width, 4 * width, 1, bias=False)
            narrow = nn.Conv2d(4 * width, width, 1, bias=False)
            self.pool = nn.Sequential(wide, nn.GroupNorm(4, 4 * width), nn.ReLU(), narrow)

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        if self.pool is not None:
            values = values + self.pool(values)
        return torch.relu(self.conv(values) + values)


class Clamp(nn.Module):
    def forward(self, values: torch.Tensor) -> torch.Tensor:
        return torch.tanh(values / 3) * 3


def _conv(before: int, after: int, **options: Any) -> nn.Module:
    return nn.Conv2d(before, after, 3, padding=1, **options)


def networks(pool: bool) -> tuple[nn.Sequential, nn.Sequential]:
    torch.manual_seed(1)
    encoder = nn.Sequential(
        _conv(3, 8),
        Block(8, False),
        _conv(8, 8, stride=2, bias=False),
        Block(8, False),
        Block(8, pool),
        _conv(8, 6),
    )
    decoder = nn.Sequential(
        Clamp(),
        _conv(6, 8),
        nn.ReLU(),
        Block(8, pool),
        Block(8, False),
        nn.Upsample(scale_factor=2),
        _conv(8, 8, bias=False),
        Block(8, False),
        _conv(8, 3),
    )
    return encoder.eval(), decoder.eval()


@pytest.fixture(params=[False, True], ids=["plain", "pooled"])
def pair(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, str, nn.Sequential, nn.Sequential]:
    encoder, decoder = networks(request.param)
    torch.save(encoder.state_dict(), tmp_path / "encoder.pth")
    save_file(decoder.state_dict(), tmp_path / "decoder.safetensors")
    return str(tmp_path / "encoder.pth"), str(tmp_path / "decoder.safetensors"), encoder, decoder


def test_a_pair_computes_what_its_own_layers_do(pair: tuple[str, str, nn.Sequential, nn.Sequential]) -> None:
    encoder_path, decoder_path, encoder, decoder = pair
    assert read_layout(encoder_path) == EncoderLayout(latent_channels=6, widths=(8, 8), blocks=(1, 2))
    model = load_pair(encoder_path, decoder_path)
    with torch.inference_mode():
        values = torch.rand(2, 3, 16, 16) * 2 - 1
        latents = encoder((values + 1) / 2)
        torch.testing.assert_close(model.encode(values).latents, latents)
        torch.testing.assert_close(model.decode(latents).sample, decoder(latents) * 2 - 1)


def test_contract(pair: tuple[str, str, nn.Sequential, nn.Sequential], tmp_path: Path) -> None:
    encoder, decoder = pair[:2]

    def small(**fields: Any) -> LatentTokenizer:
        files = {"encoder_weights": encoder, "decoder_weights": decoder}
        return LatentTokenizer.model_validate({**files, "geometry": {"edge": 16}, **fields})

    def moved(into: Path) -> LatentTokenizer:
        files = {}
        for name, path in {"encoder_weights": Path(encoder), "decoder_weights": Path(decoder)}.items():
            files[name] = str(into / path.name)
            (into / path.name).write_bytes(path.read_bytes())
        return small(**files)

    quantizer = {"kind": "fsq", "levels": [5, 5], "codebooks": 3}
    native = Geometry(mode="native")
    variants = [
        small(batch_size=3),
        small(precision="bfloat16"),
        small(geometry=native),
        small(geometry=native, tile_edge=24),
        small(quantizer=quantizer),
    ]
    (tmp_path / "moved").mkdir()
    case = Case(small(), PICTURES, variants, empty=None, decodes=lambda _, made: made.size == (16, 16), moved=moved)
    check_tokenizer(case, tmp_path / "moved")
    assert set(resolve(small()).assets) == {"encoder", "decoder"}


@pytest.mark.parametrize(
    "change",
    [
        lambda state: {},
        lambda state: {"encoder." + name: tensor for name, tensor in state.items()},
        lambda state: {name: tensor for name, tensor in state.items() if not name.startswith("1.conv.2")},
        lambda state: {**state, "1.other.weight": state["0.weight"]},
    ],
)
def test_what_is_no_such_state_dict_is_refused(change: Callable[[State], State], tmp_path: Path) -> None:
    encoder, decoder = networks(pool=False)
    torch.save(change(encoder.state_dict()), tmp_path / "encoder.pth")
    torch.save(decoder.state_dict(), tmp_path / "decoder.pth")
    with pytest.raises(AssetError, match=r"encoder\.pth: is no state dict of a TAESD"):
        load_pair(str(tmp_path / "encoder.pth"), str(tmp_path / "decoder.pth"))


def test_a_pickle_that_runs_code_is_refused(tmp_path: Path) -> None:
    torch.save({"0.weight": Path("x")}, tmp_path / "encoder.pth")
    with pytest.raises(AssetError, match="cannot be read"):
        read_layout(str(tmp_path / "encoder.pth"))
