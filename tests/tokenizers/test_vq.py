from __future__ import annotations

import json
import logging
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from huggingface_hub import constants
from PIL import Image
from pydantic import ValidationError

from tests.tokenizers.image_models import PICTURES, picture, save, saved_model
from tokenmill.contract import Encoded, resolve
from tokenmill.errors import AssetError, RunError, TokenizerError
from tokenmill.images.geometry import Geometry
from tokenmill.images.tokenizer import ImagePreparation
from tokenmill.testing import Case, check_tokenizer
from tokenmill.tokenizers.vq import ARCHITECTURES, VqTokenizer

__all__ = ["saved_model"]  # a fixture, found by its name here

Saved = Callable[[str], Path]
FACTORS = {"chameleon": 4, "emu3": 4, "janus": 2, "vq": 2}
REVISION = "0123456789abcdef0123456789abcdef01234567"


def small(directory: Path, **fields: Any) -> VqTokenizer:
    return VqTokenizer.model_validate({"directory": str(directory), "geometry": {"edge": 32}, **fields})


def encoded(tokenizer: VqTokenizer, pictures: list[Any]) -> Encoded:
    encoder = tokenizer.load()
    assert isinstance(encoder, ImagePreparation)
    return encoder.encode([encoder.prepare(payload) for payload in pictures])


def same_size(edge: int) -> Callable[[Any, Any], bool]:
    return lambda _, decoded: isinstance(decoded, Image.Image) and decoded.size == (edge, edge)


@pytest.mark.parametrize("name", ["chameleon", "emu3", "janus", "vq"])
def test_contract(name: str, saved_model: Saved, tmp_path: Path) -> None:
    directory = saved_model(name)

    def moved(into: Path) -> VqTokenizer:
        return small(Path(shutil.copytree(directory, into / "copy")))

    native = Geometry(mode="native")
    variants = [
        small(directory, batch_size=3),
        small(directory, precision="bfloat16"),
        small(directory, geometry=native),
        small(directory, geometry=native, tile_edge=24),
    ]
    (tmp_path / "moved").mkdir()
    case = Case(small(directory), PICTURES, variants, empty=None, decodes=same_size(32), moved=moved)
    check_tokenizer(case, tmp_path / "moved")


@pytest.mark.parametrize("name", ["chameleon", "emu3", "janus", "vq"])
def test_codes_are_the_models_own(name: str, saved_model: Saved) -> None:
    import diffusers
    import transformers

    directory = saved_model(name)
    architecture = ARCHITECTURES[VqTokenizer(directory=str(directory)).place().architecture(ARCHITECTURES).name]
    kind = getattr(
        {"transformers": transformers, "diffusers": diffusers}[architecture.library], architecture.class_name
    )
    options = {"low_cpu_mem_usage": False} if name == "vq" else {}
    model = kind.from_pretrained(directory, **options).eval()
    tokenizer = small(directory)
    pixels = Geometry(edge=32).place(PICTURES[0].pixels()).pixels
    values = torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None].float()
    values = values * 0.0078 - 1 if name == "chameleon" else values / 127.5 - 1
    with torch.inference_mode():
        if name == "vq":
            latents = model.encode(values).latents
            codes = model.quantize(latents)[2][2]
            decoded = model.decode(latents).sample
        elif name == "emu3":
            codes = model.encode(values, torch.tensor([[32, 32]])).image_tokens[0]
            decoded = model.decode(codes[None])
        else:
            codes = model.encode(values).image_tokens
            if name == "janus":
                model.quantize.quant_state_dims = [16, 16]
                decoded = model.decode(codes.view(1, -1))
    found = encoded(tokenizer, PICTURES[:1])
    ids = found.streams["ids"][0]
    assert ids.tobytes() == codes.numpy().astype(ids.dtype).tobytes()
    assert len(np.unique(ids)) > 4
    decoder = tokenizer.decoder()
    if name == "chameleon":
        assert decoder is None
        assert "no decoder" in tokenizer.notes()[0]
        return
    assert decoder is not None
    wanted = ((decoded[0].permute(1, 2, 0) + 1) * 127.5).round().clamp(0, 255).numpy()
    made = np.asarray(decoder.decode({name: jagged[0] for name, jagged in found.streams.items()}))
    # A batch of one and one of eight may round the last bit otherwise.
    assert np.abs(made.astype(int) - wanted).max() <= 1


@pytest.mark.parametrize("name", ["chameleon", "emu3", "janus", "vq"])
def test_codes_do_not_depend_on_the_place_in_a_batch(name: str, saved_model: Saved) -> None:
    tokenizer = small(saved_model(name))
    others = [picture(40, 40, seed) for seed in range(10, 17)]
    rows = [
        encoded(tokenizer, [*others[:place], PICTURES[0], *others[place:]]).streams["ids"][place].tobytes()
        for place in range(8)
    ]
    assert len(set(rows)) == 1


def test_tiles_lie_side_by_side(saved_model: Saved) -> None:
    directory = saved_model("vq")
    native = VqTokenizer(directory=str(directory), geometry=Geometry(mode="native"), tile_edge=16)
    image = PICTURES[0].pixels()
    found = encoded(native, PICTURES[:1])
    ids = found.streams["ids"][0]
    assert found.streams["geometry"][0].tolist() == [50, 70, 50, 70, 4, 5]
    assert ids.shape == (4 * 8, 5 * 8)
    one = VqTokenizer(directory=str(directory), geometry=Geometry(mode="crop", edge=16))
    encoder = one.load()
    from tokenmill.images.geometry import Placed

    alone = encoder.encode([Placed(np.ascontiguousarray(image[16:32, 32:48]), (16, 16))]).streams["ids"][0]
    assert ids[8:16, 16:24].tolist() == alone.tolist()
    decoder, single = native.decoder(), one.decoder()
    assert decoder is not None
    assert single is not None
    whole = decoder.decode({name: jagged[0] for name, jagged in found.streams.items()})
    assert whole.size == (70, 50)
    part = single.decode({"ids": alone, "geometry": np.array([16, 16, 16, 16, 1, 1])})
    assert np.array_equal(np.asarray(whole)[16:32, 32:48], np.asarray(part))


@pytest.mark.parametrize("name", ["vq-lookup", "vq-spatial"])
def test_kinds_of_vq_models_decode_as_the_plain_one(name: str, saved_model: Saved) -> None:
    tokenizer = small(saved_model(name))
    found = encoded(tokenizer, PICTURES[:1])
    decoder = tokenizer.decoder()
    assert decoder is not None
    assert decoder.decode({name: jagged[0] for name, jagged in found.streams.items()}).size == (32, 32)


@pytest.mark.parametrize(("name", "edge"), [("chameleon", 32), ("emu3", 512), ("janus", 16), ("vq", 16)])
def test_tiles_have_the_edge_that_the_model_was_trained_at(name: str, edge: int, saved_model: Saved) -> None:
    tokenizer = VqTokenizer(directory=str(saved_model(name)), geometry=Geometry(mode="native"))
    assert tokenizer._tile(tokenizer.place()).edge == edge
    assert tokenizer.streams()["ids"].shape == (None, None)
    assert small(saved_model(name)).streams()["ids"].shape == (32 // FACTORS[name],) * 2


def test_defaults_are_the_libraries_own() -> None:
    import inspect

    import diffusers
    import transformers

    for architecture in ARCHITECTURES.values():
        if architecture.library == "transformers":
            own = vars(getattr(transformers, f"{architecture.class_name}Config")())
        else:
            kind = getattr(diffusers, architecture.class_name)
            own = {name: value.default for name, value in inspect.signature(kind.__init__).parameters.items()}
        for field in (architecture.codebook, architecture.levels, architecture.edge, architecture.edge_cells):
            if field is not None:
                assert field[1] == (tuple(own[field[0]]) if isinstance(field[1], tuple) else own[field[0]])


def test_a_crop_that_is_no_multiple_of_the_factor_is_refused_at_planning(saved_model: Saved) -> None:
    tokenizer = small(saved_model("chameleon"), geometry=Geometry(edge=30))
    with pytest.raises(TokenizerError, match=r"geometry\.edge.*multiple of 4, such as 32"):
        tokenizer.streams()


def test_an_unknown_architecture_is_refused_with_the_known_ones(tmp_path: Path) -> None:
    for content in ({"model_type": "bert"}, {}, {"_class_name": ["VQModel"]}):
        (tmp_path / "config.json").write_text(json.dumps(content))
        with pytest.raises(TokenizerError, match="VQModel, chameleon_vqgan, emu3_vqgan, janus_vqgan"):
            small(tmp_path).streams()


@pytest.mark.parametrize(
    "content",
    ["", "[]", '{"_class_name": "VQModel", "num_vq_embeddings": -1}', '{"_class_name": "VQModel", "sample_size": []}'],
)
def test_a_broken_config_is_refused(content: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(AssetError, match=r"config\.json"):
        small(tmp_path, geometry=Geometry(mode="native")).streams()


def test_a_model_of_other_channels_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"_class_name": "VQModel", "in_channels": 1}')
    with pytest.raises(TokenizerError, match="3 channels"):
        small(tmp_path).streams()


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({}, "exactly one of"),
        ({"directory": "a", "hub_id": "b/c", "revision": REVISION}, "exactly one of"),
        ({"hub_id": "b/c"}, "needs a `revision`"),
        ({"hub_id": "b/c", "revision": "main"}, "pattern"),
        ({"directory": "a", "subfolder": "../b"}, "pattern"),
        ({"directory": "a", "tile_edge": 64}, "`fit` and `native`"),
    ],
)
def test_a_wrong_config_is_refused(fields: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        VqTokenizer.model_validate(fields)


def test_pickles_are_not_taken(saved_model: Saved, tmp_path: Path) -> None:
    shutil.copy(saved_model("vq") / "config.json", tmp_path)
    torch.save({}, tmp_path / "diffusion_pytorch_model.bin")
    with pytest.raises(AssetError, match="safetensors"):
        small(tmp_path).assets()


@pytest.mark.parametrize("name", ["janus", "vq"])
def test_weights_of_another_model_are_refused(name: str, saved_model: Saved, tmp_path: Path) -> None:
    directory = Path(shutil.copytree(saved_model(name), tmp_path / "copy"))
    config = json.loads((directory / "config.json").read_text())
    changes: list[dict[str, Any]] = [
        {"embed_dim": 16, "vq_embed_dim": 16},
        {"num_res_blocks": 2, "layers_per_block": 2},
    ]
    for change in changes:
        (directory / "config.json").write_text(json.dumps(config | {k: v for k, v in change.items() if k in config}))
        with pytest.raises(AssetError, match=r"copy"):
            small(directory).load()


@pytest.mark.parametrize("name", ["janus", "vq"])
def test_sharded_weights_are_the_same_model(name: str, saved_model: Saved, tmp_path: Path) -> None:
    from diffusers import VQModel
    from transformers import JanusVQVAE

    whole = small(saved_model(name))
    kind = {"janus": JanusVQVAE, "vq": VQModel}[name]
    options = {"low_cpu_mem_usage": False} if name == "vq" else {}
    save(kind.from_pretrained(saved_model(name), **options), tmp_path / "sharded", max_shard_size="100KB")
    sharded = small(tmp_path / "sharded")
    names = sorted(sharded.assets())
    assert len([name for name in names if name.endswith(".safetensors")]) > 1
    assert any(name.endswith(".safetensors.index.json") for name in names)
    assert encoded(sharded, PICTURES[:1]).streams["ids"][0].tolist() == (
        encoded(whole, PICTURES[:1]).streams["ids"][0].tolist()
    )
    index = next(path for path in (tmp_path / "sharded").iterdir() if path.name.endswith(".index.json"))
    index.write_text(json.dumps({"weight_map": {"a": "../outside.safetensors"}}))
    with pytest.raises(AssetError, match="beside it"):
        sharded.assets()


def test_a_pinned_revision_in_the_cache_needs_no_network(
    saved_model: Saved, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    snapshot = tmp_path / "models--org--model" / "snapshots" / REVISION
    shutil.copytree(saved_model("vq"), snapshot / "tokenizer")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(socket.socket, "connect", _no_network)
    fields = {"hub_id": "org/model", "revision": REVISION, "subfolder": "tokenizer", "geometry": Geometry(edge=32)}
    tokenizer = VqTokenizer.model_validate(fields)
    location = tokenizer.assets()["diffusion_pytorch_model.safetensors"].location
    assert location == f"hub:org/model@{REVISION}/tokenizer/diffusion_pytorch_model.safetensors"
    local = small(saved_model("vq"))
    assert resolve(tokenizer).fingerprint == resolve(local).fingerprint
    assert encoded(tokenizer, PICTURES[:1]).streams["ids"][0].tolist() == (
        encoded(local, PICTURES[:1]).streams["ids"][0].tolist()
    )


def _no_network(*arguments: Any) -> None:
    raise AssertionError(f"the network was asked for: {arguments[1:]}")


@pytest.mark.parametrize("name", ["chameleon", "vq"])
def test_loading_is_quiet_and_asks_no_network(
    name: str,
    saved_model: Saved,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    directory = saved_model(name)
    monkeypatch.setattr(socket.socket, "connect", _no_network)
    capfd.readouterr()
    with caplog.at_level(logging.WARNING):
        small(directory).load()
        small(directory).decoder()
    assert capfd.readouterr() == ("", "")
    assert caplog.records == []


def test_planning_imports_no_torch(saved_model: Saved) -> None:
    script = (
        "import sys; from tokenmill.contract import resolve; from tokenmill.tokenizers.vq import VqTokenizer;"
        f"resolve(VqTokenizer(directory={str(saved_model('vq'))!r}));"
        "print([name for name in ('torch', 'diffusers', 'transformers') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_out_of_memory_names_the_batch_size(saved_model: Saved, monkeypatch: pytest.MonkeyPatch) -> None:
    from tokenmill.tokenizers.vq_models import VqModel

    def encode(self: VqModel, pixels: torch.Tensor) -> torch.Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(VqModel, "encode", encode)
    with pytest.raises(RunError, match=r"batches of 3[\s\S]*`batch_size` below 3"):
        encoded(small(saved_model("vq"), batch_size=3), PICTURES[:1])


@pytest.mark.parametrize("name", ["chameleon", "emu3", "janus", "vq"])
def test_vectors_are_quantized_in_float32_at_any_precision(name: str, saved_model: Saved) -> None:
    exact = encoded(small(saved_model(name)), PICTURES).streams["ids"].values
    rough = encoded(small(saved_model(name), precision="bfloat16"), PICTURES).streams["ids"].values
    assert 0.5 < float(np.mean(exact == rough)) < 1
