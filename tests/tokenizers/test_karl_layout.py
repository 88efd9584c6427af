import dataclasses
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from tests.tokenizers.karl_models import SIZES, random_network, save
from tokenmill.errors import AssetError
from tokenmill.tokenizers.karl.layout import load_network, read_sizes
from tokenmill.tokenizers.karl.network import KarlNetwork, Sizes


@pytest.fixture
def state() -> dict[str, Any]:
    return dict(random_network().state_dict())


def refused(state: dict[str, Any], tmp_path: Path, **options: Any) -> str:
    torch.save({"ema": state}, tmp_path / "w.pth")
    with pytest.raises(AssetError) as error:
        load_network(tmp_path / "w.pth", options.get("key", "ema"), options.get("heads", 4), options.get("tokens", 24))
    assert error.value.where == str(tmp_path / "w.pth")
    return str(error.value)


def test_sizes_are_read_off_the_tensors(state: dict[str, Any]) -> None:
    assert read_sizes(state, 4, "here") == SIZES
    with torch.device("meta"):
        published = KarlNetwork(Sizes()).state_dict()
    assert read_sizes(published, 8, "here") == Sizes()


def test_a_network_is_loaded_as_it_was_saved(tmp_path: Path) -> None:
    network = random_network()
    pixels = torch.rand(1, 3, 64, 64)
    wanted = network.encode(pixels, 24, 2)
    flat = {name: tensor.contiguous() for name, tensor in network.state_dict().items()}
    save_file(flat, tmp_path / "w.safetensors")
    for path, key in (
        (save(network, tmp_path / "w.pth"), "ema"),
        (save(network, tmp_path / "v.pth", key=None), None),
        (str(tmp_path / "w.safetensors"), None),
    ):
        loaded = load_network(path, key, 4, 24)
        assert not loaded.training
        assert all(not parameter.requires_grad for parameter in loaded.parameters())
        assert all(torch.equal(a, b) for a, b in zip(loaded.encode(pixels, 24, 2), wanted, strict=True))


def test_one_by_one_convolutions_are_matrices_and_halves_become_floats(state: dict[str, Any], tmp_path: Path) -> None:
    wanted = state["decoder.ffn.0.weight"].clone()
    state["decoder.ffn.0.weight"] = wanted[:, :, None, None]
    state["decoder_mask_token"] = state["decoder_mask_token"][0]
    state["patch_embed.bias"] = state["patch_embed.bias"].to(torch.bfloat16)
    torch.save({"ema": state}, tmp_path / "w.pth")
    network = load_network(tmp_path / "w.pth", "ema", 4, 24)
    assert torch.equal(network.get_parameter("decoder.ffn.0.weight"), wanted)
    assert network.decoder_mask_token.shape == (1, 1, SIZES.width)
    assert network.patch_embed.bias is not None
    assert network.patch_embed.bias.dtype == torch.float32


def test_missing_and_unexpected_keys_are_named(state: dict[str, Any], tmp_path: Path) -> None:
    del state["encoder_ln_post_halt.bias"]
    assert "pth: lacks encoder_ln_post_halt.bias\n" in refused(state, tmp_path)
    state["decoder.head.weight"] = torch.zeros(1)
    message = refused(state, tmp_path)
    assert "lacks encoder_ln_post_halt.bias and has unexpected decoder.head.weight" in message
    assert "docs/tokenizers-karl.md" in message
    state["encoder_ln_post_halt.bias"] = torch.zeros(96)
    assert "pth: has unexpected decoder.head.weight\n" in refused(state, tmp_path)


def test_many_missing_keys_are_counted(state: dict[str, Any], tmp_path: Path) -> None:
    kept = {name: tensor for name, tensor in state.items() if not name.startswith("decoder.transformer.1.")}
    assert "decoder.transformer.1.attn.in_proj_bias, " in (message := refused(kept, tmp_path))
    assert "… (12 in all)" in message


@pytest.mark.parametrize(
    "key",
    ["latent_tokens", "rec_loss_embeddings", "halting_mlp.0.weight", "base_tokenizer.vqgan.encoder.conv_in.weight"],
)
def test_a_key_that_gives_a_size_is_named_too(key: str, state: dict[str, Any], tmp_path: Path) -> None:
    del state[key]
    assert f"lacks the key '{key}'" in refused(state, tmp_path)


@pytest.mark.parametrize("prefix", ["encoder.transformer", "base_tokenizer.vqgan.encoder.down"])
def test_absent_blocks_are_named(prefix: str, state: dict[str, Any], tmp_path: Path) -> None:
    state = {name: tensor for name, tensor in state.items() if not name.startswith(prefix)}
    assert f"has no keys '{prefix}.<number>'" in refused(state, tmp_path)


def test_wrong_shapes_are_named(state: dict[str, Any], tmp_path: Path) -> None:
    transposed = {**state, "decoder_embed.weight": state["decoder_embed.weight"].T.contiguous()}
    assert "holds 'decoder_embed.weight' with the shape (12, 96); expected (96, 12)" in refused(transposed, tmp_path)
    flat = {**state, "latent_tokens": state["latent_tokens"].flatten()}
    assert "holds 'latent_tokens' with the shape (3840,), not 2 dimensions" in refused(flat, tmp_path)
    whole = {**state, "decoder_embed.bias": torch.zeros(96, dtype=torch.int64)}
    assert "in torch.int64, not in floating point" in refused(whole, tmp_path)


def test_networks_that_cannot_be_are_refused(state: dict[str, Any], tmp_path: Path) -> None:
    assert "a width of 96, which 7 heads do not divide" in refused(state, tmp_path, heads=7)
    odd = {**state, "base_tokenizer.vqgan.encoder.conv_in.weight": torch.zeros(20, 3, 3, 3)}
    assert "not multiples of 32" in refused(odd, tmp_path)
    deep = {**state, "base_tokenizer.vqgan.encoder.down.5.block.0.conv1.weight": torch.zeros(64, 64, 3, 3)}
    assert "6 resolutions, whose map does not fit 16-pixel patches" in refused(deep, tmp_path)
    narrow = {**state, "base_tokenizer.vqgan.encoder.conv_out.weight": torch.zeros(96, 64, 1, 1)}
    assert "leaves none for patches" in refused(narrow, tmp_path)
    four_layers = dataclasses.replace(SIZES, encoder_layers=4)
    assert read_sizes(dict(random_network(four_layers).state_dict()), 4, "here") == four_layers


def test_another_network_than_plans_speak_of_is_refused(state: dict[str, Any], tmp_path: Path) -> None:
    assert "has 40 latents; the tokenizer asks for 41 tokens" in refused(state, tmp_path, tokens=41)
    small = {**state, "quantize.embedding.weight": torch.zeros(1000, 12)}
    assert "has 1000 codes; the published network has 4096" in refused(small, tmp_path)
    few = {**state, "rec_loss_embeddings": torch.zeros(18, 96)}
    assert "has 18 errors to ask for; the published network has 19" in refused(few, tmp_path)


def test_what_is_no_state_dict_is_refused(state: dict[str, Any], tmp_path: Path) -> None:
    assert "holds nothing under 'model'; its keys are ema" in refused(state, tmp_path, key="model")
    assert "holds what is no tensor: epoch" in refused({**state, "epoch": 3}, tmp_path)
    assert "holds what is no tensor: ema" in refused(state, tmp_path, key=None)
    torch.save({"ema": [1, 2]}, tmp_path / "list.pth")
    with pytest.raises(AssetError, match="holds list under 'ema' in place of a state dict"):
        load_network(tmp_path / "list.pth", "ema", 4, 24)


class _Payload:
    """What a hostile file would have run while it is read."""

    def __init__(self, proof: Path) -> None:
        self.proof = proof

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.proof,))


@pytest.mark.parametrize("how", ["torch", "pickle"])
def test_a_file_that_would_run_code_is_refused(how: str, state: dict[str, Any], tmp_path: Path) -> None:
    proof, path = tmp_path / "ran", tmp_path / "w.pth"
    content = {"ema": state, "args": _Payload(proof)}
    if how == "torch":
        torch.save(content, path)
    else:
        path.write_bytes(pickle.dumps(content))
    with pytest.raises(AssetError, match="cannot be read"):
        load_network(path, "ema", 4, 24)
    assert not proof.exists()
