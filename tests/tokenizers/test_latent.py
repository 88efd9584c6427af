from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from pydantic import ValidationError
from safetensors.torch import save_file

from tests.tokenizers.image_models import PICTURES, WEIGHTS, picture, saved_model
from tokenmill.contract import Encoded
from tokenmill.errors import AssetError, RunError, TokenizerError
from tokenmill.images.geometry import Geometry, Placed
from tokenmill.images.image_file import ImageFile
from tokenmill.images.tokenizer import ImagePreparation
from tokenmill.quantizers import ResidualConfig
from tokenmill.registry import parse_tokenizer
from tokenmill.testing import Case, check_tokenizer
from tokenmill.tokenizers.latent import ARCHITECTURES, LatentTokenizer
from tokenmill.tokenizers.latent_scales import LatentScales

__all__ = ["saved_model"]  # a fixture, found by its name here

Saved = Callable[[str], Path]
FACTORS = {"tiny": 4, "kl": 2, "dc": 2}
CHANNELS = {"tiny": 8, "kl": 4, "dc": 8}
FSQ = {"kind": "fsq", "levels": [5, 5, 5, 5], "codebooks": 2, "bound": "clamp", "symmetric": True, "scale": 3.0}


def small(directory: Path, **fields: Any) -> LatentTokenizer:
    return LatentTokenizer.model_validate({"directory": str(directory), "geometry": {"edge": 32}, **fields})


def encoded(tokenizer: LatentTokenizer, pictures: list[Any]) -> Encoded:
    encoder = tokenizer.load()
    assert isinstance(encoder, ImagePreparation)
    return encoder.encode([encoder.prepare(payload) for payload in pictures])


def same_size(_: Any, decoded: Any) -> bool:
    return isinstance(decoded, Image.Image) and decoded.size == (32, 32)


def scales_file(path: Path, channels: int) -> str:
    means = tuple(index / 10 for index in range(channels))
    LatentScales(means=means, deviations=(0.5,) * channels).write(path)
    return str(path)


@pytest.mark.parametrize("name", ["tiny", "kl", "dc"])
def test_contract(name: str, saved_model: Saved, tmp_path: Path) -> None:
    directory = saved_model(name)

    def moved(into: Path) -> LatentTokenizer:
        return small(Path(shutil.copytree(directory, into / "copy")))

    native = Geometry(mode="native")
    variants = [
        small(directory, batch_size=3),
        small(directory, precision="bfloat16"),
        small(directory, geometry=native),
        small(directory, geometry=native, tile_edge=24),
        small(directory, quantizer=FSQ | {"codebooks": CHANNELS[name] // 4}),
    ]
    (tmp_path / "moved").mkdir()
    case = Case(small(directory), PICTURES, variants, empty=None, decodes=same_size, moved=moved)
    check_tokenizer(case, tmp_path / "moved")


def test_contract_of_quantized_latents(saved_model: Saved, tmp_path: Path) -> None:
    directory = saved_model("tiny")
    scales = scales_file(tmp_path / "scales.json", 8)

    def moved(into: Path) -> LatentTokenizer:
        own = Path(shutil.copytree(directory, into / "copy"))
        return small(own, quantizer=FSQ, latent_scales=str(shutil.copy(scales, into)))

    geometry = Geometry(mode="fit", edge=48)
    variants = [
        small(directory, quantizer=FSQ, latent_scales=scales, batch_size=3),
        small(directory, quantizer=FSQ, latent_scales=scales, precision="bfloat16"),
        small(directory, quantizer=FSQ, latent_scales=scales, geometry=geometry),
        small(directory, quantizer=FSQ, latent_scales=scales, geometry=geometry, tile_edge=24),
        small(directory, quantizer=FSQ | {"levels": [7, 7, 7, 7]}, latent_scales=scales),
        small(directory, quantizer=FSQ),
    ]
    (tmp_path / "moved").mkdir()
    tokenizer = small(directory, quantizer=FSQ, latent_scales=scales)
    case = Case(tokenizer, PICTURES, variants, empty=None, decodes=same_size, moved=moved)
    check_tokenizer(case, tmp_path / "moved")


@pytest.mark.parametrize("name", ["tiny", "kl", "dc"])
def test_latents_are_the_models_own(name: str, saved_model: Saved) -> None:
    import diffusers

    directory = saved_model(name)
    architecture = LatentTokenizer(directory=str(directory))._architecture()
    model = getattr(diffusers, architecture.class_name).from_pretrained(directory, low_cpu_mem_usage=False).eval()
    pixels = Geometry(edge=32).place(PICTURES[0].pixels()).pixels
    values = torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None].float() / 127.5 - 1
    with torch.inference_mode():
        found = model.encode(values)
        wanted = {"tiny": "latents", "kl": "latent_dist", "dc": "latent"}[name]
        latents = found[wanted].mean if name == "kl" else found[wanted]
        decoded = model.decode(latents.half().float()).sample
    tokenizer = small(directory)
    row = {name: jagged[0] for name, jagged in encoded(tokenizer, PICTURES[:1]).streams.items()}
    assert row["latents"].shape == (32 // FACTORS[name], 32 // FACTORS[name], CHANNELS[name])
    np.testing.assert_allclose(row["latents"], latents[0].permute(1, 2, 0).numpy(), rtol=2e-3, atol=2e-3)
    wanted_pixels = ((decoded[0].permute(1, 2, 0) + 1) * 127.5).round().clamp(0, 255).numpy()
    made = np.asarray(tokenizer.decoder().decode(row)).astype(int)
    assert np.abs(made - wanted_pixels).max() <= 2


@pytest.mark.parametrize("quantizer", [None, FSQ])
@pytest.mark.parametrize("name", ["tiny", "kl", "dc"])
def test_rows_do_not_depend_on_the_place_in_a_batch(name: str, quantizer: Any, saved_model: Saved) -> None:
    quantizer = quantizer and quantizer | {"codebooks": CHANNELS[name] // 4}
    tokenizer = small(saved_model(name), quantizer=quantizer)
    stream = next(iter(tokenizer.streams()))
    others = [picture(40, 40, seed) for seed in range(10, 17)]
    rows = [
        encoded(tokenizer, [*others[:place], PICTURES[0], *others[place:]]).streams[stream][place].tobytes()
        for place in range(8)
    ]
    assert len(set(rows)) == 1


def test_defaults_are_the_librarys_own() -> None:
    import inspect

    import diffusers

    for architecture in ARCHITECTURES.values():
        parameters = inspect.signature(getattr(diffusers, architecture.class_name).__init__).parameters
        for field in (architecture.channels, architecture.levels, architecture.edge):
            if field is not None:
                assert field[1] == parameters[field[0]].default


def test_codes_decode_to_the_latents_nearest_them(saved_model: Saved, tmp_path: Path) -> None:
    scales = scales_file(tmp_path / "scales.json", 8)
    tokenizer = small(saved_model("tiny"), quantizer=FSQ, latent_scales=scales)
    spec = tokenizer.streams()["codes"]
    assert (spec.dtype, spec.dims, spec.shape) == ("uint16", ("row", "column", "codebook"), (8, 8, 2))
    assert (spec.vocabulary_size, spec.bands) == (625, "codebook")
    latents = encoded(small(saved_model("tiny")), PICTURES[:1]).streams["latents"][0].astype(float)
    codes = encoded(tokenizer, PICTURES[:1]).streams["codes"][0].astype(int)
    normalised = (latents - np.arange(8) / 10) / 0.5
    levels = np.clip(np.round((normalised / 3 + 1) * 2), 0, 4).reshape(8, 8, 2, 4).astype(int)
    wanted = (levels * 5 ** np.arange(4)).sum(axis=-1)
    # What lies at a threshold may fall on either side once it was rounded to float16.
    assert np.mean(codes == wanted) > 0.97


def test_a_learned_quantizer_is_read_from_its_file(saved_model: Saved, tmp_path: Path) -> None:
    latents = encoded(small(saved_model("tiny")), PICTURES).streams["latents"].values.reshape(-1, 8)
    config = ResidualConfig(dimension=8, codebooks=3, codebook_size=16)
    state = config.fit(torch.from_numpy(latents.astype(np.float32)), iterations=5)
    save_file({name: tensor.contiguous() for name, tensor in state.items()}, tmp_path / "state.safetensors")
    fields = {"quantizer": config.model_dump(), "quantizer_weights": str(tmp_path / "state.safetensors")}
    tokenizer = small(saved_model("tiny"), **fields)
    tokenizer.check()
    assert "quantizer" in tokenizer.assets()
    assert encoded(tokenizer, PICTURES).streams["codes"][0].shape == (8, 8, 3)
    assert parse_tokenizer(tokenizer.to_json()) == tokenizer
    with pytest.raises(AssetError):
        small(saved_model("tiny"), quantizer=config.model_dump()).check()


def test_a_quantizer_of_another_dimension_is_refused_at_planning(saved_model: Saved) -> None:
    with pytest.raises(TokenizerError, match=r"vectors of 4; this model's latents have 8 channels"):
        small(saved_model("tiny"), quantizer=FSQ | {"codebooks": 1}).streams()


def test_scales_are_estimated_over_images(saved_model: Saved, tmp_path: Path) -> None:
    plain = small(saved_model("tiny"))
    scales = LatentScales.estimate(plain, PICTURES)
    latents = encoded(plain, PICTURES).streams["latents"].values.reshape(-1, 8).astype(float)
    np.testing.assert_allclose(scales.means, latents.mean(axis=0), atol=1e-6)
    np.testing.assert_allclose(scales.deviations, latents.std(axis=0), atol=1e-6)
    scales.write(tmp_path / "scales.json")
    assert LatentScales.read(tmp_path / "scales.json", 8) == scales
    with pytest.raises(TokenizerError, match="at least one image"):
        LatentScales.estimate(plain, [])


@pytest.mark.parametrize(
    "content", ["", "{}", '{"means": [0], "deviations": [1]}', json.dumps({"means": [0] * 8, "deviations": [0] * 8})]
)
def test_broken_scales_are_refused_at_planning(content: str, saved_model: Saved, tmp_path: Path) -> None:
    (tmp_path / "scales.json").write_text(content)
    tokenizer = small(saved_model("tiny"), quantizer=FSQ, latent_scales=str(tmp_path / "scales.json"))
    with pytest.raises(AssetError, match=r"scales\.json"):
        tokenizer.check()


def test_latents_that_float16_cannot_hold_are_a_failure_of_their_item(
    saved_model: Saved, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tokenmill.tokenizers.latent_models import LatentModel

    def latents(self: LatentModel, pixels: torch.Tensor) -> torch.Tensor:
        return pixels[:, ::4, ::4, :1].float().repeat(1, 1, 1, 8) * 1000

    monkeypatch.setattr(LatentModel, "latents", latents)
    encoder = small(saved_model("tiny")).load()
    dark, bright = (Placed(np.full((32, 32, 3), value, np.uint8), (32, 32)) for value in (10, 200))
    found = encoder.encode([bright, dark])
    assert [(failure.index, failure.reason) for failure in found.failures] == [(0, "not_finite")]
    assert len(found.streams["latents"]) == len(found.streams["geometry"]) == 1
    assert set(found.streams["latents"].values.tolist()) == {10000.0}


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({}, "exactly one of"),
        ({"encoder_weights": "a"}, "go together"),
        ({"directory": "a", "encoder_weights": "a", "decoder_weights": "b"}, "exactly one of"),
        ({"encoder_weights": "a", "decoder_weights": "b", "subfolder": "c"}, "`subfolder` is for"),
        ({"encoder_weights": "a", "decoder_weights": "b", "revision": "0" * 40}, "a `revision` a `hub_id`"),
        ({"directory": "a", "latent_scales": "b"}, "need a `quantizer`"),
        ({"directory": "a", "quantizer_weights": "b"}, "need a `quantizer`"),
    ],
)
def test_a_wrong_config_is_refused(fields: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        LatentTokenizer.model_validate(fields)


def test_planning_imports_no_torch(saved_model: Saved) -> None:
    config = {"directory": str(saved_model("tiny")), "quantizer": FSQ}
    script = (
        "import sys; from tokenmill.contract import resolve; from tokenmill.tokenizers.latent import LatentTokenizer;"
        f"resolve(LatentTokenizer.model_validate({config!r}));"
        "print([name for name in ('torch', 'diffusers', 'transformers') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_out_of_memory_names_the_batch_size(saved_model: Saved, monkeypatch: pytest.MonkeyPatch) -> None:
    from tokenmill.tokenizers.latent_models import LatentModel

    def encode(self: LatentModel, pixels: torch.Tensor) -> torch.Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(LatentModel, "encode", encode)
    with pytest.raises(RunError, match=r"batches of 3[\s\S]*`batch_size` below 3"):
        encoded(small(saved_model("tiny"), batch_size=3), PICTURES[:1])


def photographs(names: list[str]) -> list[ImageFile]:
    import skimage

    return [ImageFile((Path(skimage.data.__file__).parent / name).read_bytes()) for name in names]


def psnr(tokenizer: LatentTokenizer, photos: list[ImageFile]) -> list[float]:
    streams, decoder = encoded(tokenizer, photos).streams, tokenizer.decoder()
    found = []
    for index, photo in enumerate(photos):
        made = decoder.decode({name: jagged[index] for name, jagged in streams.items()})
        error = np.asarray(made).astype(float) - tokenizer.geometry.place(photo.pixels()).pixels
        found.append(float(10 * np.log10(255**2 / np.square(error).mean())))
    return found


def test_real_weights_keep_photographs(tmp_path: Path) -> None:
    folder = WEIGHTS / "taef2"
    if not folder.is_dir():
        pytest.skip(f"no real weights: {folder} is missing (TOKENMILL_TEST_WEIGHTS names another folder)")
    pair = {
        "encoder_weights": str(folder / "taef2_encoder.pth"),
        "decoder_weights": str(folder / "taef2_decoder.pth"),
        "batch_size": 1,
    }
    photos = photographs(["astronaut.png", "chelsea.png", "coffee.png", "rocket.jpg"])
    plain = LatentTokenizer.model_validate(pair)
    assert plain.streams()["latents"].shape == (32, 32, 32)
    assert min(psnr(plain, photos)) > 29
    # Scales of other pictures than those that are measured.
    others = photographs(["motorcycle_left.png", "hubble_deep_field.jpg", "retina.jpg", "ihc.png"])
    scales = LatentScales.estimate(plain, others)
    scales.write(tmp_path / "scales.json")
    quantizer = {"kind": "fsq", "levels": [16] * 4, "codebooks": 8, "bound": "clamp", "symmetric": True, "scale": 3.0}
    fields = {**pair, "quantizer": quantizer, "latent_scales": str(tmp_path / "scales.json")}
    coded = LatentTokenizer.model_validate(fields)
    assert coded.streams()["codes"].dtype == "uint16"
    found = psnr(coded, photos)
    assert min(found) > 27, found
