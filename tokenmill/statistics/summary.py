"""What statistics say, as plain JSON: pure functions of merged counts, per source and overall.

Fractions are rounded to 6 significant digits, so that a summary is the same wherever it is made. How it is shown is
not decided here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from tokenmill.contract import TokenClasses
from tokenmill.statistics.bands import Bands
from tokenmill.statistics.describing import describe, entropy_bits, ratio, rounded
from tokenmill.statistics.error_curve import ERROR_UNIT, ErrorCurve
from tokenmill.statistics.merge import MergedStatistics
from tokenmill.statistics.module_summary import summarize_code, summarize_modules
from tokenmill.statistics.octaves import first_and_last
from tokenmill.statistics.part import PartStatistics
from tokenmill.statistics.sketch import values_at
from tokenmill.statistics.sound_summary import summarize_rates, summarize_recordings
from tokenmill.statistics.stream import StreamStatistics
from tokenmill.statistics.unigrams import Unigrams

#: Ranks between which a Zipf exponent is fitted: the head follows no power law, and the far tail is sampling noise.
ZIPF_RANKS = (10, 10_000)
_FEWEST_ZIPF_RANKS = 50


def summarize(
    statistics: MergedStatistics,
    classes: TokenClasses | None = None,
    token_text: Callable[[Sequence[int]], list[str]] | None = None,
    top: int = 20,
) -> dict[str, Any]:
    """Summarise merged statistics.

    Args:
        statistics: The merged counts.
        classes: Ids that count apart; they are looked for in every stream that has a vocabulary.
        token_text: Gives printable forms of ids (`Tokenizer.token_text`); default: no text.
        top: How many of the most frequent ids to list.

    Returns:
        `{"overall": …, "sources": {name: …}}`, JSON values only, None where something has no value. Streams have
        these members only where their specs call for them: `about_rows` (its values are no tokens, they describe the
        row: its dimension is "value"), `octaves` (documents by octave of their tokens), `bands` (how the ids are used
        in each band), `errors` (their quantiles, and by octave of the tokens), `labels` (how often each came).
        Tables of sound have `sound`, of their recordings and of each stream of tokens: `sound_summary` says what.
        Tables of LLVM IR have `modules` likewise, of their modules and of each stream of tokens: see `module_summary`.
    """
    classes = classes or TokenClasses()

    def one(counts: PartStatistics) -> dict[str, Any]:
        return _summarize_counts(counts, classes, token_text, top)

    return {
        "overall": one(statistics.overall()),
        "sources": {name: one(statistics.sources[name]) for name in sorted(statistics.sources)},
    }


def _summarize_counts(
    counts: PartStatistics,
    classes: TokenClasses,
    token_text: Callable[[Sequence[int]], list[str]] | None,
    top: int,
) -> dict[str, Any]:
    rejected = sorted(counts.rejected.items(), key=lambda item: (-item[1].items, item[0]))
    return {
        "items": counts.items,
        "documents": counts.documents,
        "rejected": {
            "items": counts.rejected_items,
            "fraction": ratio(counts.rejected_items, counts.items),
            "lost_bytes": sum(reject.lost_bytes for _, reject in rejected),
            "by_reason": {reason: reject.items for reason, reject in rejected},
        },
        "input_bytes": counts.input_bytes,
        "bytes_per_document": describe(counts.bytes_per_document),
        **({} if counts.sound is None else {"sound": summarize_recordings(counts.sound, counts.rejected)}),
        **({} if counts.modules is None else {"modules": summarize_modules(counts.modules, top)}),
        "streams": {
            name: {
                "tokens": stream.tokens,
                "bytes_per_token": ratio(counts.input_bytes, stream.tokens),
                "tokens_per_document": describe(stream.lengths),
                "vocabulary": _summarize_unigrams(stream, stream.unigrams, classes, token_text, top),
                **_summarize_roles(stream),
                **({} if counts.sound is None else summarize_rates(stream, counts.sound)),
                **({} if counts.modules is None else summarize_code(stream, counts.modules)),
            }
            for name, stream in counts.streams.items()
        },
    }


def _summarize_roles(stream: StreamStatistics) -> dict[str, Any]:
    """Return what only streams with a part to play have."""
    found: dict[str, Any] = {}
    if stream.spec.dims == ("value",):
        found["about_rows"] = True
    if stream.octaves is not None:
        octaves = zip(*stream.octaves.sparse(), strict=True)
        found["octaves"] = [{**_span(int(octave)), "documents": int(count)} for octave, count in octaves]
    if stream.bands is not None:
        found["bands"] = {"by": stream.spec.bands, "bands": _summarize_bands(stream.bands, stream.spec.bands)}
    if stream.errors is not None:
        found["errors"] = _summarize_errors(stream.errors)
    if stream.spec.labels is not None and stream.unigrams is not None:
        found["labels"] = dict(zip(stream.spec.labels, stream.unigrams.dense().tolist(), strict=True))
    return found


def _summarize_bands(bands: Bands, by: str | None) -> list[dict[str, Any]]:
    found = []
    for band, counts in bands.by_band():
        bits = entropy_bits(counts)
        span = _span(band) if by == "octave" else {"first": band, "last": band}
        found.append(
            {
                **span,
                **({"last": None} if band == bands.most - 1 else {}),  # it counts those above, too
                "tokens": int(counts.sum()),
                "used": len(counts),
                "dead": bands.vocabulary_size - len(counts),
                "used_fraction": ratio(len(counts), bands.vocabulary_size),
                "entropy_bits": rounded(bits),
                "perplexity": None if bits is None else rounded(2**bits),
            }
        )
    return found


def _summarize_errors(curve: ErrorCurve) -> dict[str, Any]:
    octaves = []
    for octave, buckets in curve.by_octave().items():
        p50, p95 = (rounded(value * ERROR_UNIT) for value in values_at(buckets, [0.5, 0.95]))
        octaves.append({**_span(octave), "documents": int(buckets.sum()), "p50": p50, "p95": p95})
    return {
        "of": curve.of,
        "unknown": curve.unknown,
        "quantiles": describe(curve.errors, ERROR_UNIT),
        "octaves": octaves,
    }


def _span(octave: int) -> dict[str, int | None]:
    return dict(zip(("first", "last"), first_and_last(octave), strict=True))


def _summarize_unigrams(
    stream: StreamStatistics,
    unigrams: Unigrams | None,
    classes: TokenClasses,
    token_text: Callable[[Sequence[int]], list[str]] | None,
    top: int,
) -> dict[str, Any] | None:
    if unigrams is None:
        return None
    ids, counts = unigrams.sparse()
    # Most frequent first; of equally frequent ids the smaller first.
    order = np.argsort(-counts, kind="stable")
    top_ids = [int(number) for number in ids[order[:top]]]
    texts = token_text(top_ids) if token_text is not None and top_ids else [None] * len(top_ids)
    top_counts = [int(count) for count in counts[order[:top]]]

    def rate(members: Sequence[int]) -> float | None:
        return ratio(int(counts[np.isin(ids, np.array(members, np.int64))].sum()), stream.tokens) if members else None

    return {
        "size": unigrams.vocabulary_size,
        "used": len(ids),
        "used_fraction": ratio(len(ids), unigrams.vocabulary_size),
        "entropy_bits": rounded(entropy_bits(counts)),
        "zipf_exponent": rounded(zipf_exponent(counts[order])),
        "byte_fallback_rate": rate(classes.byte_fallback),
        "unknown_rate": rate(classes.unknown),
        "special_rate": rate(classes.special),
        "top": [
            {"id": number, "text": text, "count": count, "share": ratio(count, stream.tokens)}
            for number, text, count in zip(top_ids, texts, top_counts, strict=True)
        ],
    }


def zipf_exponent(counts: npt.NDArray[np.int64]) -> float | None:
    """Fit s in frequency ∝ rank^-s, by maximum likelihood over the ranks in `ZIPF_RANKS`.

    The discrete maximum-likelihood estimate for a power law (Clauset, Shalizi and Newman, "Power-law distributions in
    empirical data", SIAM Review 2009, section 3), here for ranks on a bounded support [a, b]: s solves
    mean of ln(rank) over the tokens = sum r^-s ln r / sum r^-s over a ≤ r ≤ b. Each token weighs the same, unlike in a
    least-squares line through log-log points, where the many rare ids (ordered by chance) outweigh all others.

    Args:
        counts: int64 `[rank - 1]`, from the most frequent id downwards.

    Returns:
        The exponent, between 0 and 20; None where fewer than 50 ranks can be fitted.
    """
    first, last = ZIPF_RANKS[0], min(ZIPF_RANKS[1], len(counts))
    if last - first + 1 < _FEWEST_ZIPF_RANKS:
        return None
    logs = np.log(np.arange(first, last + 1, dtype=np.float64))
    weights = counts[first - 1 : last].astype(np.float64)
    wanted = float((weights * logs).sum() / weights.sum())
    low, high = 0.0, 20.0
    while high - low > 1e-9:  # the expected log rank falls as s rises
        middle = (low + high) / 2
        shares = np.exp(-middle * (logs - logs[0]))
        if float((shares * logs).sum() / shares.sum()) > wanted:
            low = middle
        else:
            high = middle
    return (low + high) / 2
