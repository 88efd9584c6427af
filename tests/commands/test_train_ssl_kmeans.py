"""`tokenmill train ssl-kmeans` from recordings to a codebook that tokenizes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.commands.conftest import Run
from tests.tokenizers.audio_models import sound
from tests.tokenizers.speech_models import speech_model
from tokenmill.audio.audio_file import AudioClip
from tokenmill.audio.testing import wav
from tokenmill.audio.tokenizer import AudioEncoder
from tokenmill.errors import TokenizerError
from tokenmill.tokenizers.ssl_kmeans import SslKmeansTokenizer
from tokenmill.tokenizers.ssl_kmeans.codebook import read_codebook

__all__ = ["speech_model"]  # a fixture, found by its name here

Saved = Callable[[str], Path]
RATE_HZ = 16_000


@pytest.fixture
def recordings(tmp_path: Path) -> Path:
    folder = tmp_path / "recordings"
    (folder / "more").mkdir(parents=True)
    for number in range(6):
        place = folder / "more" if number % 2 else folder
        (place / f"{number}.wav").write_bytes(wav(sound(2.0, RATE_HZ, number)[:, None], RATE_HZ))
    (folder / "notes.txt").write_text("no sound")
    return folder


def test_a_codebook_is_fitted_twice_the_same_and_works(
    run: Run, recordings: Path, speech_model: Saved, tmp_path: Path
) -> None:
    model = str(speech_model("hubert"))
    outputs = [tmp_path / "one.npz", tmp_path / "two.npz"]
    for output in outputs:
        ran = run(
            *("train", "ssl-kmeans", str(recordings), "--model", model, "--layer", "2"),
            *("--clusters", "12", "--output", str(output)),
        )
        assert ran.code == 0, ran.err
        assert "notes.txt" in ran.err
        assert "12 of 12 clusters used" in ran.err
        made = ran.json
        assert (made["recordings"], made["frames"], made["frames_clustered"], made["layer"]) == (6, 594, 594, 2)
        assert 0 < made["unexplained"] < 0.9
        assert made["used"] == 12
    assert outputs[0].read_bytes() == outputs[1].read_bytes()
    tokenizer = SslKmeansTokenizer(directory=model, layer=2, codebook=str(outputs[0]))
    tokenizer.check()
    encoder = tokenizer.load()
    assert isinstance(encoder, AudioEncoder)
    encoded = encoder.encode([encoder.prepare(AudioClip(sound(2.0, RATE_HZ, 9), RATE_HZ, 1))])
    assert len(np.unique(encoded.streams["ids"][0])) > 4
    codebook = read_codebook(outputs[0])
    assert codebook.model == {name: asset.sha256 for name, asset in tokenizer.assets().items() if name != "codebook"}
    with pytest.raises(TokenizerError, match="another model"):
        SslKmeansTokenizer(directory=str(speech_model("wavlm")), layer=2, codebook=str(outputs[0])).check()


def test_seed_hours_and_globs_have_an_effect(run: Run, recordings: Path, speech_model: Saved, tmp_path: Path) -> None:
    settings = {
        "all": [str(recordings / "**" / "*.wav")],
        "seed": [str(recordings / "**" / "*.wav"), "--seed", "1"],
        "hours": [str(recordings / "**" / "*.wav"), "--hours", "0.002"],
    }
    codebooks = {}
    for name, arguments in settings.items():
        output = tmp_path / f"{name}.npz"
        ran = run(
            *("train", "ssl-kmeans", *arguments, "--model", str(speech_model("hubert")), "--layer", "2"),
            *("--clusters", "4", "--output", str(output)),
        )
        assert ran.code == 0, ran.err
        assert "notes.txt" not in ran.err
        codebooks[name] = read_codebook(output)
    assert codebooks["all"].made["recordings"] == codebooks["seed"].made["recordings"] == 6
    assert codebooks["hours"].made["recordings"] == 4  # 7.2 s, of 2 s each
    assert len({codebook.codes.tobytes() for codebook in codebooks.values()}) == 3


def test_an_even_sample_is_clustered_where_there_is_much(
    run: Run, recordings: Path, speech_model: Saved, tmp_path: Path
) -> None:
    ran = run(
        *("train", "ssl-kmeans", str(recordings), "--model", str(speech_model("hubert")), "--layer", "1"),
        *("--clusters", "2", "--output", str(tmp_path / "codebook.npz")),
    )
    assert ran.code == 0, ran.err
    assert (ran.json["frames"], ran.json["frames_clustered"]) == (594, 512)


def test_what_cannot_work_is_refused_and_nothing_written(
    run: Run, recordings: Path, speech_model: Saved, tmp_path: Path
) -> None:
    taken = tmp_path / "taken.npz"
    taken.write_bytes(b"mine")
    model, output = str(speech_model("hubert")), tmp_path / "codebook.npz"
    for says, arguments in {
        "there already": ["--clusters", "4", "--layer", "2", "--output", str(taken), "--model", model],
        "594 frames": ["--clusters", "600", "--layer", "2", "--output", str(output), "--model", model],
        "`layer` is 5": ["--clusters", "4", "--layer", "5", "--output", str(output), "--model", model],
        "no config.json": ["--clusters", "4", "--layer", "1", "--output", str(output), "--model", str(tmp_path)],
        "no full hash": [
            "--clusters",
            "4",
            "--layer",
            "1",
            "--output",
            str(output),
            "--model",
            "a/b",
            "--revision",
            "main",
        ],
        "--clusters": ["--clusters", "1", "--layer", "1", "--output", str(output), "--model", model],
    }.items():
        ran = run("train", "ssl-kmeans", str(recordings), *arguments)
        assert ran.code == 2
        assert says in ran.err
    assert taken.read_bytes() == b"mine"
    assert not output.exists()
