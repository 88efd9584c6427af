"""`tokenmill train ssl-kmeans`: fits the codebook of the tokenizer `ssl-kmeans` on recordings of one's own."""

from __future__ import annotations

import json
import re
import sys
from typing import Annotated

import typer

from tokenmill.commands.new_file import Output, report, require_new, write_new
from tokenmill.errors import ConfigurationError


def train_ssl_kmeans(
    recordings: Annotated[
        list[str],
        typer.Argument(
            metavar="RECORDINGS...", help="Audio files, folders of them and globs, local or s3://bucket/prefix."
        ),
    ],
    model: Annotated[
        str,
        typer.Option("--model", help="The speech encoder: a directory, or a repository of the hub with --revision."),
    ],
    layer: Annotated[
        int, typer.Option("--layer", min=1, help="The layer whose vectors are clustered; the first is 1.")
    ],
    clusters: Annotated[
        int,
        typer.Option("--clusters", min=2, max=65536, help="How many codes. Memory: 0.8 MB each, of 768 components."),
    ],
    output: Output,
    revision: Annotated[str | None, typer.Option("--revision", help="Full hash of the commit on the hub.")] = None,
    hours: Annotated[
        float | None, typer.Option("--hours", min=0.001, help="Hear so much at most, of files drawn; default: all.")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of what is drawn.")] = 0,
    device: Annotated[str, typer.Option("--device", help="cpu, cuda or cuda:<number>.")] = "cpu",
) -> None:
    """Fit the codebook of `ssl-kmeans`: k-means of a layer of a speech encoder. The same input gives the same file.

    Standard output is what the file records of how it was made, as JSON.
    """
    from tokenmill.tokenizers.hub_files import REVISION
    from tokenmill.tokenizers.model_files import ModelPlace
    from tokenmill.tokenizers.ssl_kmeans.training import FitSettings, fit_codebook

    require_new(output)
    if revision is None:
        place = ModelPlace("ssl-kmeans", directory=model)
    elif re.match(REVISION, revision):
        place = ModelPlace("ssl-kmeans", hub_id=model, revision=revision)
    else:
        raise ConfigurationError(
            f"--revision is {revision!r}, no full hash of a commit (40 hexadecimal digits)",
            fix="give the hash: a branch or tag could mean another model tomorrow",
        )
    settings = FitSettings(layer, clusters, seed, None if hours is None else hours * 3600, device)
    codebook = fit_codebook(place, recordings, settings, report)
    write_new(output, codebook.save())
    record = {"model": dict(codebook.model), "layer": codebook.layer, **codebook.made}
    sys.stdout.write(json.dumps(record, indent=1) + "\n")
