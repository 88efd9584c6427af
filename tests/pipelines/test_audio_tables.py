"""Every audio tokenizer's rows: the same through a pipeline with one worker, with two, and of a recording by itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

import tokenmill
from pipelines import Launcher
from tests.pipelines.test_runners import planned, run, shards
from tests.tokenizers.audio_models import Saved, saved_codec, sound
from tests.tokenizers.speech_models import LAYER, codebook_of, speech_model
from tokenmill.audio.audio_file import AudioFile, HeldContent
from tokenmill.encoding_ahead import encode_items
from tokenmill.registry import tokenizer_class

__all__ = ["saved_codec", "speech_model"]  # fixtures, found by their names here

LYRA = Path(__file__).parents[3] / "shared" / "weights" / "lyra"


@pytest.fixture(scope="module")
def launcher() -> Iterator[Launcher]:
    with Launcher() as started:
        yield started


@pytest.fixture(params=["all", "lyra"])
def tokenizers(
    request: pytest.FixtureRequest, saved_codec: Saved, speech_model: Callable[[str], Path], tmp_path: Path
) -> dict[str, dict[str, Any]]:
    """One of each kind; `lyra`, whose weights may be absent, by itself."""
    if request.param == "lyra":
        if not LYRA.exists():
            pytest.skip(f"needs the networks of Lyra in {LYRA}")
        return {"lyra": {"id": "lyra", "weights": str(LYRA), "codebooks": 16}}
    hubert = speech_model("hubert")
    codebook = codebook_of(hubert, tmp_path / "units.npz")
    return {
        "mdct-rvq": {"id": "mdct-rvq", "codebooks": 8},
        "phones": {"id": "phones"},
        "ssl-kmeans": {"id": "ssl-kmeans", "directory": str(hubert), "layer": LAYER, "codebook": str(codebook)},
        **{name: {"id": name, "directory": str(saved_codec(name))} for name in ("dac", "encodec", "mimi", "xcodec")},
        "dac-batched": {"id": "dac", "directory": str(saved_codec("dac")), "batch_size": 3},
    }


def test_a_recordings_row_depends_on_nothing_but_the_recording(
    launcher: Launcher, tokenizers: dict[str, dict[str, Any]], tmp_path: Path
) -> None:
    """Some recordings are ten times as long as their neighbours."""
    (tmp_path / "in").mkdir()
    for number in range(6):
        samples = sound(3.1 if number % 3 == 1 else 0.31, 22_050, seed=number)
        soundfile.write(tmp_path / "in" / f"{number}.wav", samples, 22_050, "PCM_16")
    made, outputs = [], []
    for workers in (1, 2):
        job, plan = planned(
            tmp_path / "in",
            tmp_path / f"out{workers}",
            source={"modality": "audio", "fields": {}},
            splitting={"split_bytes": 150_000, "part_bytes": 10_000_000},
            tables=[{"name": name, "tokenizer": tokenizer} for name, tokenizer in tokenizers.items()],
        )
        assert len(plan.splits) > 1
        assert run(launcher, job, plan, workers=workers)[-1] == {"event": "done"}
        made.append(shards(job, plan))
        outputs.append(job.output)
    assert made[0] == made[1]

    dataset = tokenmill.open(outputs[0])
    for name, config in tokenizers.items():
        tokenizer = tokenizer_class(config["id"]).model_validate({k: v for k, v in config.items() if k != "id"})
        encoder, specs = tokenizer.load(), tokenizer.streams()
        assert len(dataset[name]) == 6
        for row in (dataset[name][index] for index in range(6)):
            data = (tmp_path / "in" / row.key).read_bytes()
            alone = encode_items(encoder, specs, [AudioFile(HeldContent(data))])
            for stream in specs:
                np.testing.assert_array_equal(row.streams[stream], alone.streams[stream][0], f"{name}, {stream}")
