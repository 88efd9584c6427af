import pytest
import torch
from torch import nn

from tests.tokenizers.karl_models import SIZES, TOKENS, random_network
from tokenmill.tokenizers.karl.network import KarlNetwork, Sizes, positions
from tokenmill.tokenizers.karl.transformer import Attention
from tokenmill.tokenizers.karl.vqgan import ResidualBlock

_BLOCK = {
    "ln_1.weight": (1024,),
    "ln_1.bias": (1024,),
    "attn.in_proj_weight": (3072, 1024),
    "attn.in_proj_bias": (3072,),
    "attn.out_proj.weight": (1024, 1024),
    "attn.out_proj.bias": (1024,),
    "ln_2.weight": (1024,),
    "ln_2.bias": (1024,),
    "mlp.c_fc.weight": (4096, 1024),
    "mlp.c_fc.bias": (4096,),
    "mlp.c_proj.weight": (1024, 4096),
    "mlp.c_proj.bias": (1024,),
}
_NORMALISATIONS = (
    *("encoder_ln_pre", "encoder_ln_post", "encoder_ln_post_halt"),
    *("decoder.ln_pre", "decoder.ln_post"),
)
#: All keys of the published layout outside the VQGAN, with the shapes of the published small network.
PUBLISHED = {
    **{
        f"{part}.transformer.{i}.{key}": size
        for part in ("encoder", "decoder")
        for i in range(8)
        for key, size in _BLOCK.items()
    },
    **{f"{name}.{kind}": (1024,) for name in _NORMALISATIONS for kind in ("weight", "bias")},
    "encoder_positional_embedding": (1024, 64, 64),
    "decoder_positional_embedding": (1024, 64, 64),
    "decoder_mask_token": (1, 1, 1024),
    "decoder_embed.weight": (1024, 12),
    "decoder_embed.bias": (1024,),
    "decoder_latent_tokens_timestep_embed": (512, 1024),
    "latent_tokens": (512, 1024),
    "rec_loss_embeddings": (19, 1024),
    "pre_quantizer_mlp.weight": (12, 1024),
    "pre_quantizer_mlp.bias": (12,),
    "halting_mlp.0.weight": (512, 1024),
    "halting_mlp.0.bias": (512,),
    "halting_mlp.2.weight": (1, 512),
    "halting_mlp.2.bias": (1,),
    "decoder.ffn.0.weight": (2048, 1024),
    "decoder.ffn.0.bias": (2048,),
    "decoder.ffn.2.weight": (1024, 2048),
    "decoder.ffn.2.bias": (1024,),
    "patch_embed.weight": (768, 3, 16, 16),
    "patch_embed.bias": (768,),
    "quantize.embedding.weight": (4096, 12),
}
_VQGAN = "base_tokenizer.vqgan."


def test_the_published_small_network_has_the_published_keys_and_size() -> None:
    with torch.device("meta"):
        network = KarlNetwork(Sizes())
    shapes = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    assert {name: shape for name, shape in shapes.items() if not name.startswith(_VQGAN)} == PUBLISHED
    vqgan = {name.removeprefix(_VQGAN): shape for name, shape in shapes.items() if name.startswith(_VQGAN)}
    assert {name.split(".")[0] for name in vqgan} == {"encoder", "decoder", "quantize"}
    assert vqgan["quantize.embedding.weight"] == (1024, 256)
    assert vqgan["encoder.conv_in.weight"] == (128, 3, 3, 3)
    assert vqgan["encoder.down.4.block.0.nin_shortcut.weight"] == (512, 512, 1, 1)
    assert vqgan["encoder.mid.block_2.conv2.weight"] == (512, 512, 3, 3)
    assert vqgan["decoder.up.0.block.1.conv2.weight"] == (128, 128, 3, 3)
    assert vqgan["decoder.up.1.upsample.conv.bias"] == (128,)
    assert "decoder.up.0.upsample.conv.bias" not in vqgan
    assert round(sum(parameter.numel() for parameter in network.parameters()) / 1e6) == 271


def test_attention_is_that_of_torch_with_a_mask_of_each_image() -> None:
    torch.manual_seed(0)
    reference = nn.MultiheadAttention(64, 4, batch_first=True).requires_grad_(False)
    for bias in (reference.in_proj_bias, reference.out_proj.bias):
        bias.normal_()
    attention = Attention(64, 4)
    attention.load_state_dict(reference.state_dict())
    sequence, visible = torch.randn(3, 11, 64), torch.rand(3, 11) > 0.5
    wanted, _ = reference(sequence, sequence, sequence, key_padding_mask=~visible, need_weights=False)
    with torch.no_grad():
        torch.testing.assert_close(attention(sequence, visible), wanted)
        assert not torch.equal(attention(sequence, None), attention(sequence, visible))


def test_what_is_not_kept_does_not_count() -> None:
    network = random_network()
    torch.manual_seed(1)
    codes, kept = torch.randint(4096, (3, TOKENS)), torch.rand(3, TOKENS) > 0.5
    pixels = network.decode(codes, kept, (4, 4))
    assert pixels.shape == (3, 3, 64, 64)
    others = torch.where(kept, codes, torch.randint(4096, (3, TOKENS)))
    assert torch.equal(network.decode(others, kept, (4, 4)), pixels)
    for image in range(3):
        one_more = kept.clone()
        one_more[image, int((~kept[image]).nonzero()[0])] = True
        changed = (network.decode(codes, one_more, (4, 4)) != pixels).flatten(1).any(1)
        assert changed.tolist() == [number == image for number in range(3)]


def test_kept_codes_decode_at_their_places() -> None:
    network = random_network()
    codes, kept = torch.arange(TOKENS)[None] * 7, torch.zeros(1, TOKENS, dtype=torch.bool)
    kept[0, 3] = True
    moved = kept.roll(1, dims=1)
    here, there = network.decode(codes, kept, (4, 4)), network.decode(codes.roll(1, dims=1), moved, (4, 4))
    assert float((here - there).abs().max()) > 0.01


def test_codes_are_the_nearest_by_angle_and_their_length_is_nothing() -> None:
    network = random_network()
    vectors = torch.randn(2, 5, 12)
    codebook = network.quantize.embedding.weight
    cosines = torch.nn.functional.cosine_similarity(vectors[:, :, None], codebook[None, None], dim=-1)
    codes = network._nearest_codes(vectors)
    assert torch.equal(codes, cosines.argmax(-1))
    kept = torch.ones(2, 5, dtype=torch.bool)
    pixels = network.decode(codes, kept, (4, 4))
    network.quantize.embedding.weight.mul_(torch.rand(4096, 1) + 0.5)
    assert torch.equal(network._nearest_codes(vectors), codes)
    torch.testing.assert_close(network.decode(codes, kept, (4, 4)), pixels, rtol=0, atol=1e-4)


def test_logits_become_the_mean_of_codes_weighted_by_their_probabilities() -> None:
    vqgan = random_network().base_tokenizer.vqgan
    codes = torch.randint(50, (2, 4, 4))
    certain = torch.nn.functional.one_hot(codes, 50) * 1000.0
    hard = vqgan.decoder(vqgan.quantize.embedding(codes).permute(0, 3, 1, 2))
    torch.testing.assert_close(vqgan.decode_soft(certain), hard, rtol=0, atol=1e-4)
    two = torch.full((1, 4, 4, 50), -1000.0)
    two[..., 3], two[..., 9] = 0.0, float(torch.tensor(3.0).log())
    mean = 0.25 * vqgan.quantize.embedding.weight[3] + 0.75 * vqgan.quantize.embedding.weight[9]
    mixed = vqgan.decoder(mean[None, :, None, None].expand(1, -1, 4, 4))
    torch.testing.assert_close(vqgan.decode_soft(two), mixed, rtol=0, atol=1e-4)


def test_the_shortcut_of_a_block_that_changes_channels_starts_from_its_output() -> None:
    block = ResidualBlock(32, 64).requires_grad_(False)
    pixels = torch.rand(1, 32, 8, 8)
    assert block.nin_shortcut is not None
    block.nin_shortcut.weight.copy_(2 * torch.eye(64)[..., None, None])
    doubled = block(pixels)
    block.nin_shortcut.weight.zero_()
    torch.testing.assert_close(doubled, 3 * block(pixels))


def test_the_error_asked_for_and_the_number_of_latents_reach_the_codes() -> None:
    network = random_network()
    torch.manual_seed(2)
    pixels = torch.rand(2, 3, 64, 64)
    codes, halting = network.encode(pixels, TOKENS, 0)
    assert codes.shape == halting.shape == (2, TOKENS)
    assert len(set(codes.flatten().tolist())) > TOKENS
    assert 0 <= float(halting.min()) < float(halting.max()) <= 1
    assert not torch.equal(network.encode(pixels, TOKENS, 1)[1], halting)
    fewer = network.encode(pixels, TOKENS - 4, 0)[0]
    assert fewer.shape == (2, TOKENS - 4)
    assert not torch.equal(fewer, codes[:, : TOKENS - 4])


def test_codes_and_halting_have_a_normalisation_each() -> None:
    pixels = torch.rand(1, 3, 64, 64)
    codes, halting = random_network().encode(pixels, TOKENS, 0)
    for name, same_codes, same_halting in (("encoder_ln_post", False, True), ("encoder_ln_post_halt", True, False)):
        network = random_network()
        network.get_parameter(f"{name}.weight").copy_(torch.linspace(-1, 1, SIZES.width))
        others = network.encode(pixels, TOKENS, 0)
        assert (torch.equal(others[0], codes), torch.equal(others[1], halting)) == (same_codes, same_halting)


def test_positions_are_interpolated_between_places() -> None:
    stored = torch.arange(8.0)[None, :, None] * 10 + torch.arange(8.0)
    assert positions(stored, (8, 8)) is stored
    # Two stored places on either side of each wanted one.
    wanted = torch.arange(4.0)[None, :, None] * 20 + 5 + torch.arange(4.0) * 2 + 0.5
    torch.testing.assert_close(positions(stored, (4, 4)), wanted)
    assert positions(stored.to(torch.bfloat16), (4, 4)).dtype == torch.bfloat16


@pytest.mark.parametrize("part", ["encoder", "decoder"])
def test_places_of_the_grid_matter(part: str) -> None:
    network = random_network()
    pixels, kept = torch.full((1, 3, 64, 64), 0.5), torch.ones(1, TOKENS, dtype=torch.bool)
    codes, halting = network.encode(pixels, TOKENS, 0)
    image = network.decode(codes, kept, (4, 4))
    getattr(network, f"{part}_positional_embedding").copy_(torch.randn(SIZES.width, *SIZES.grid))
    if part == "encoder":
        assert not torch.equal(network.encode(pixels, TOKENS, 0)[1], halting)
    else:
        assert not torch.equal(network.decode(codes, kept, (4, 4)), image)
