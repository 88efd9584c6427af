import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image
from pydantic import ValidationError

from tests.tokenizers.karl_models import TOKENS, image_files, random_network, save, tokenizer
from tokenmill.contract import Encoded, PrefixDecoder, resolve
from tokenmill.errors import AssetError
from tokenmill.images.geometry import Geometry, Placed
from tokenmill.images.tokenizer import OUTCOMES
from tokenmill.registry import parse_tokenizer
from tokenmill.testing import Case, check_tokenizer
from tokenmill.tokenizers.karl import KarlTokenizer
from tokenmill.tokenizers.karl.encoder import KarlEncoder
from tokenmill.tokenizers.karl.published import ERROR_BINS


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Weights of which a part of the latents halts."""
    return save(random_network(), tmp_path_factory.mktemp("karl") / "small.pth")


def encoder(config: KarlTokenizer) -> KarlEncoder:
    loaded = config.load()
    assert isinstance(loaded, KarlEncoder)
    return loaded


def encode(config: KarlTokenizer, count: int = 5) -> Encoded:
    loaded = encoder(config)
    return loaded.encode([loaded.prepare(file) for file in image_files(count)])


def rows(encoded: Encoded) -> list[dict[str, npt.NDArray[Any]]]:
    count = len(encoded.streams["ids"])
    return [{name: jagged[index] for name, jagged in encoded.streams.items()} for index in range(count)]


def test_contract(weights: str, tmp_path: Path) -> None:
    same = save(random_network(), tmp_path / "flat.pth", key=None)

    def moved(directory: Path) -> KarlTokenizer:
        return tokenizer(str(shutil.copy(weights, directory / "moved.pth")))

    def decodes(payload: Any, decoded: Any) -> bool:
        return isinstance(decoded, Image.Image) and decoded.size == (64, 64) and decoded.mode == "RGB"

    check_tokenizer(
        Case(
            tokenizer(weights),
            payloads=image_files(),
            empty=None,
            decodes=decodes,
            moved=moved,
            variants=[
                tokenizer(weights, geometry=Geometry(edge=48)),
                tokenizer(weights, tokens=TOKENS - 1),
                tokenizer(weights, error=0.1),
                tokenizer(weights, heads=2),
                tokenizer(weights, measure_error=False),
                tokenizer(weights, precision="bfloat16"),
                tokenizer(weights, batch_size=4),
                tokenizer(same, weights_key=None),
            ],
        ),
        tmp_path,
    )


def test_it_is_registered() -> None:
    given = {"id": "karl", "weights": "w.pth", "error": 0.09}
    config = parse_tokenizer(given)
    assert isinstance(config, KarlTokenizer)
    assert config.to_json() == given
    assert (config.tokens, config.geometry, config.weights_key) == (256, Geometry(), "ema")


def test_planning_needs_the_weights_digest_and_no_more(tmp_path: Path) -> None:
    (tmp_path / "w.pth").write_bytes(b"no weights at all")
    resolved = resolve(KarlTokenizer(weights=str(tmp_path / "w.pth")))
    assert list(resolved.assets) == ["weights"]
    ids = resolved.streams["ids"]
    assert (ids.dtype, ids.vocabulary_size, ids.bands, resolved.streams["positions"].dtype) == (
        *("uint16", 4096, "octave"),
        "uint16",
    )
    with pytest.raises(AssetError, match="cannot read this file"):
        resolve(KarlTokenizer(weights=str(tmp_path / "none.pth")))


def test_any_subset_of_latents_is_kept_and_stored_with_its_places(weights: str) -> None:
    found = rows(encode(tokenizer(weights)))
    network = random_network()
    kept = []
    for row, file in zip(found, image_files(), strict=True):
        pixels = Geometry(edge=64).place(file.pixels()).pixels
        planes = torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None] / 255
        codes, halting = network.encode(planes, TOKENS, 5)
        places = (halting[0] <= 0.75).nonzero()[:, 0]
        assert row["positions"].tolist() == places.tolist()
        assert row["ids"].tolist() == codes[0, places].tolist()
        kept.append(row["positions"].tolist())
    assert all(0 < len(places) < TOKENS and sorted(set(places)) == places for places in kept)
    assert any(places != list(range(len(places))) for places in kept)
    assert len({tuple(places) for places in kept}) > 1


@pytest.mark.parametrize(("bias", "tokens"), [(-1000.0, TOKENS), (1000.0, 0)])
def test_all_or_none_may_be_kept(bias: float, tokens: int, tmp_path: Path) -> None:
    config = tokenizer(save(random_network(halting_bias=bias), tmp_path / "w.pth"))
    encoded = encode(config)
    assert encoded.streams["ids"].lengths.tolist() == [tokens] * 5
    assert encoded.streams["positions"].lengths.tolist() == [tokens] * 5
    for row in rows(encoded):
        assert config.decoder().decode(row).size == (64, 64)


@pytest.mark.parametrize(
    ("error", "snapped"),
    [(0, 0.005), (0.005, 0.005), (0.0051, 0.01), (0.045, 0.05), (0.05, 0.05), (0.08, 0.09), (0.33, 0.38), (0.38, 0.38)],
)
def test_the_error_is_asked_for_as_the_next_bin_up(error: float, snapped: float) -> None:
    assert ERROR_BINS[KarlTokenizer(weights="w", error=error).error_bin] == snapped


def test_another_bin_gives_other_codes_and_the_same_bin_the_same(weights: str) -> None:
    def halted(error: float) -> list[list[int]]:
        return [row["positions"].tolist() for row in rows(encode(tokenizer(weights, error=error)))]

    assert len(ERROR_BINS) == 19
    assert halted(0.041) == halted(0.05) != halted(0.38)


@pytest.mark.parametrize("error", [-0.01, 0.39, float("nan"), float("inf")])
def test_errors_beyond_the_bins_are_refused(error: float) -> None:
    with pytest.raises(ValidationError):
        KarlTokenizer(weights="w", error=error)


@pytest.mark.parametrize(
    "geometry", [Geometry(mode="fit"), Geometry(mode="native"), Geometry(edge=250), Geometry(edge=1040)]
)
def test_other_geometries_are_refused(geometry: Geometry) -> None:
    with pytest.raises(ValidationError, match="multiple of 16 and at most 1024"):
        KarlTokenizer(weights="w", geometry=geometry)


def test_an_edge_that_was_not_published_is_noted() -> None:
    assert KarlTokenizer(weights="w").notes() == []
    assert "at 128 its positions are interpolated" in KarlTokenizer(weights="w", geometry=Geometry(edge=128)).notes()[0]


def test_the_error_recorded_is_that_of_the_decoded_image(weights: str) -> None:
    config = tokenizer(weights, error=0.3)
    decoder = config.decoder()
    errors, outcomes = [], []
    for row, file in zip(rows(encode(config)), image_files(), strict=True):
        used = Geometry(edge=64).place(file.pixels()).pixels.astype(float)
        decoded = np.asarray(decoder.decode(row)).astype(float)
        # A batch of another size may round a few pixels the other way.
        assert row["error"][0] == pytest.approx(np.abs(decoded - used).mean() / 255, abs=1e-5)
        errors.append(float(row["error"][0]))
        outcomes.append(OUTCOMES[row["outcome"][0]])
    assert outcomes == ["met" if error <= 0.3 else "missed" for error in errors]
    assert set(outcomes) == {"met", "missed"}


def test_an_image_that_misses_with_every_token_is_capped(tmp_path: Path) -> None:
    config = tokenizer(save(random_network(halting_bias=-1000.0), tmp_path / "w.pth"), error=0.005)
    assert {OUTCOMES[i] for i in encode(config).streams["outcome"].values} == {"capped"}


def test_what_is_not_measured_is_not_claimed(weights: str) -> None:
    config = tokenizer(weights, measure_error=False)
    assert set(config.streams()) == {"ids", "positions", "geometry"}
    plain, measured = encode(config).streams, encode(tokenizer(weights)).streams
    assert np.array_equal(plain["ids"].values, measured["ids"].values)
    assert np.array_equal(plain["positions"].values, measured["positions"].values)


@pytest.mark.parametrize("batch_size", [1, 3])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_an_image_is_the_same_alone_and_beside_others(batch_size: int, precision: str, weights: str) -> None:
    loaded = encoder(tokenizer(weights, batch_size=batch_size, precision=precision))
    assert loaded.batch_items == batch_size
    placed = [loaded.prepare(file) for file in image_files(3)]
    alone = [rows(loaded.encode([item]))[0] for item in placed]
    order = [2, 0, 1, 1, 0, 2, 2, 0, 1, 0]
    beside = rows(loaded.encode([placed[number] for number in order]))
    assert len({row["ids"].tobytes() for row in alone}) == 3
    for number, row in zip(order, beside, strict=True):
        assert all(row[name].tobytes() == values.tobytes() for name, values in alone[number].items())


def test_rows_decode_and_their_prefixes_too(weights: str) -> None:
    config = tokenizer(weights)
    decoder = config.decoder()
    assert isinstance(decoder, PrefixDecoder)
    row = rows(encode(config))[4]
    count = len(row["ids"])
    images = []
    for fraction in (1e-9, 0.25, 0.5, 1.0):
        cut = decoder.prefix(row, fraction)
        assert len(cut["ids"]) == len(cut["positions"]) == max(-(-count * fraction // 1), 1)
        assert cut["positions"].tolist() == row["positions"][: len(cut["ids"])].tolist()
        images.append(np.asarray(decoder.decode(cut)))
    assert len({image.tobytes() for image in images}) == 4
    assert images[-1].shape == (64, 64, 3)
    assert images[-1].dtype == np.uint8
    assert images[-1].min() < images[-1].max()
    nothing = {name: values[:0] for name, values in row.items()}
    assert len(decoder.prefix(nothing, 0.5)["ids"]) == 0


def test_an_image_whose_halting_is_no_number_fails_alone(weights: str) -> None:
    loaded = encoder(tokenizer(weights))
    placed = [loaded.prepare(file) for file in image_files(3)]
    network = loaded._network
    before, black = loaded.encode(placed), Placed(np.zeros_like(placed[0].pixels), (64, 64))
    network.halting_mlp.register_forward_hook(lambda _module, _given, result: result * float("nan"))
    assert len(loaded.encode(placed).failures) == 3
    network.halting_mlp._forward_hooks.clear()

    def break_black(_module: object, given: tuple[torch.Tensor, ...], result: torch.Tensor) -> torch.Tensor:
        return result / given[0].amax((1, 2, 3)).sign()[:, None, None, None]

    network.patch_embed.register_forward_hook(break_black)
    encoded = loaded.encode([placed[0], black, placed[1], placed[2]])
    assert [(failure.index, failure.reason) for failure in encoded.failures] == [(1, "not_finite")]
    assert all(np.array_equal(encoded.streams[name].values, before.streams[name].values) for name in before.streams)


def test_configs_and_plans_need_no_torch(weights: str) -> None:
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "import tokenmill.loader\n"
        "from tokenmill.contract import resolve\n"
        "from tokenmill.errors import MissingExtraError\n"
        "from tokenmill.registry import parse_tokenizer\n"
        "tokenizer = parse_tokenizer({'id': 'karl', 'weights': sys.argv[1]})\n"
        "print(resolve(tokenizer).fingerprint)\n"
        "for use in (tokenizer.load, tokenizer.decoder):\n"
        "    try:\n"
        "        use()\n"
        "    except MissingExtraError as error:\n"
        "        print(error.fix)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, weights], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    fix = "pip install 'tokenmill[networks]'"
    assert done.stdout.splitlines() == [resolve(KarlTokenizer(weights=weights)).fingerprint, fix, fix]
