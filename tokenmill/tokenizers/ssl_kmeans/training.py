"""From sound to a codebook of a layer's vectors: what `tokenmill train ssl-kmeans` does."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
import numpy.typing as npt

from tokenmill.audio.audio_file import AudioFile
from tokenmill.errors import InputError, ItemError
from tokenmill.registry import missing_extra
from tokenmill.storage.inputs import expand, join, open_input
from tokenmill.tokenizers.model_files import ModelPlace
from tokenmill.tokenizers.ssl_kmeans.codebook import Codebook
from tokenmill.tokenizers.ssl_kmeans.model import SpeechModel

if TYPE_CHECKING:
    import torch

#: float32 `[frame, component]`.
Vectors = npt.NDArray[np.float32]

#: Rounds of k-means.
ITERATIONS = 25
#: How often is told how far it is, in seconds of sound.
_REPORT_SECONDS = 600.0


@dataclass(frozen=True)
class FitSettings:
    """What is fitted.

    Attributes:
        layer: The layer whose vectors are clustered, the first is 1.
        clusters: Number of codes.
        seed: Of whatever is drawn.
        most_seconds: So much sound is heard at most, of files in an order that is drawn; None: all of it.
        device: Where the model runs, and k-means.
    """

    layer: int
    clusters: int
    seed: int = 0
    most_seconds: float | None = None
    device: str = "cpu"


def fit_codebook(
    place: ModelPlace, uris: Sequence[str], settings: FitSettings, report: Callable[[str], None]
) -> Codebook:
    """Fit a codebook on recordings.

    Vectors of all frames are drawn from evenly, `MOST_VECTORS_A_CODE` a code at most, so that memory is bounded however
    much sound there is. The same files and settings give the same codebook, on one device and release of torch.

    Args:
        place: The model.
        uris: Audio files, folders of them and globs, local or on object storage.
        settings: What to fit.
        report: Is told what is being done, which files were left out, and how good the codebook is.

    Raises:
        InputError: There are fewer frames than codes.
        TokenizerError: The model is none that is known, or has no such layer.
    """
    try:
        from tokenmill.quantizers.kmeans import MOST_VECTORS_A_CODE, k_means
        from tokenmill.tokenizers.networks import network_device
    except ModuleNotFoundError as error:
        raise missing_extra(error, "tokenmill train ssl-kmeans") from error
    import torch

    model = SpeechModel(place)
    model.check_layer(settings.layer)
    device = network_device(settings.device, place.tokenizer)
    digests = {name: asset.sha256 for name, asset in model.assets().items()}
    loaded = model.load(settings.layer, "float32", device)
    sample = _Sample(settings.clusters * MOST_VECTORS_A_CODE, model.components(), settings.seed)
    heard = _Heard()
    for uri, size_bytes in _files(uris, settings):
        if settings.most_seconds is not None and heard.seconds >= settings.most_seconds:
            break
        try:
            recording = AudioFile(_Stored(uri, size_bytes)).recording(model.rate_hz())
            for vectors in loaded.vectors(recording):
                sample.add(vectors.cpu().numpy())
            heard.add(int(recording.numbers()[5]) / model.rate_hz(), report)
        except ItemError as error:
            report(f"not heard, or not to its end: {uri}: {error.what}")
    report(f"{heard.recordings:,} recordings, {heard.seconds:,.0f} s, {sample.seen:,} frames")
    if sample.seen < settings.clusters:
        raise InputError(
            f"there are {sample.seen:,} frames of sound; {settings.clusters:,} clusters need as many at least",
            where=", ".join(uris),
            fix="give more recordings, or fewer clusters; fifty frames a cluster and more are better",
        )
    drawn = torch.from_numpy(sample.vectors()).to(device)
    report(f"k-means: {len(drawn):,} frames of {drawn.shape[1]} components, {settings.clusters:,} clusters")
    generator = torch.Generator().manual_seed(settings.seed)
    with torch.inference_mode():
        codes, _ = k_means(drawn, settings.clusters, generator, ITERATIONS)
        made = {
            "seed": settings.seed,
            "iterations": ITERATIONS,
            "recordings": heard.recordings,
            "seconds": round(heard.seconds, 3),
            "frames": sample.seen,
            "frames_clustered": len(drawn),
            **_quality(drawn, codes),
        }
    report(
        f"squared distance to the nearest code {made['inertia']:.4g} a frame, "
        f"{made['unexplained']:.1%} of the variance; {made['used']:,} of {settings.clusters:,} clusters used"
    )
    return Codebook(codes.cpu().numpy(), digests, settings.layer, made)


class _Sample:
    """At most `most` vectors drawn evenly from all that come, however many (Vitter's algorithm R).

    Args:
        most: How many.
        components: Of each.
        seed: Of what is drawn.
    """

    def __init__(self, most: int, components: int, seed: int) -> None:
        self.seen = 0
        self._most = most
        self._kept = np.empty((most, components), np.float32)
        self._random = np.random.default_rng(seed)

    def add(self, vectors: Vectors) -> None:
        """Look at vectors `[frame, component]`."""
        free = vectors[: max(self._most - self.seen, 0)]
        self._kept[self.seen : self.seen + len(free)] = free
        self.seen += len(free)
        vectors = vectors[len(free) :]
        places = self._random.integers(0, np.arange(self.seen, self.seen + len(vectors)) + 1)
        self.seen += len(vectors)
        for number in np.flatnonzero(places < self._most):
            self._kept[places[number]] = vectors[number]

    def vectors(self) -> Vectors:
        """Return what was drawn, `[vector, component]`."""
        return self._kept[: self.seen]


class _Heard:
    """How much was heard so far."""

    def __init__(self) -> None:
        self.recordings = 0
        self.seconds = 0.0
        self._told = 0.0

    def add(self, seconds: float, report: Callable[[str], None]) -> None:
        self.recordings += 1
        self.seconds += seconds
        if self.seconds >= self._told + _REPORT_SECONDS:
            self._told = self.seconds
            report(f"heard {self.recordings:,} recordings, {self.seconds:,.0f} s")


@dataclass(frozen=True)
class _Stored:
    """A file of the user's, as the content of an `AudioFile`."""

    uri: str
    size_bytes: int

    def open(self) -> BinaryIO:
        return open_input(self.uri)


def _files(uris: Sequence[str], settings: FitSettings) -> list[tuple[str, int]]:
    found = expand(uris)
    files = [(join(found.root, file.path), file.size_bytes) for file in found.files]
    if settings.most_seconds is not None:
        random.Random(settings.seed).shuffle(files)  # noqa: S311 - an order, not a secret
    return files


def _quality(vectors: torch.Tensor, codes: torch.Tensor) -> dict[str, Any]:
    """Return how well codes `[code, component]` stand for vectors `[vector, component]`."""
    import torch

    from tokenmill.quantizers.exact import Codes

    nearest = Codes(codes).nearest(vectors)
    inertia = float((vectors - codes[nearest]).double().square().sum(dim=1).mean())
    variance = float(vectors.double().var(dim=0, correction=0).sum())
    return {
        "inertia": inertia,
        "unexplained": inertia / variance if variance else 0.0,
        "used": int(torch.bincount(nearest).count_nonzero()),
    }
