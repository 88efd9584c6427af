"""`tokenmill inspect`: what a dataset holds, from its manifest alone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from tokenmill.commands.output import AsJson, Uri, fields, size, write_json, write_lines, write_table

if TYPE_CHECKING:
    from tokenmill.dataset import Dataset, Table
    from tokenmill.streams import StreamSpec


def inspect_dataset(uri: Uri, as_json: AsJson = False) -> None:
    """Show tables, tokenizers, rows, tokens, sources, generations and statistics of a dataset."""
    from tokenmill.dataset import open_dataset
    from tokenmill.layout import parse_generation
    from tokenmill.statistics.render import render_text
    from tokenmill.storage.outputs import Storage

    dataset = open_dataset(uri)
    listed = (parse_generation(entry.path) for entry in Storage.open(uri).list("manifests/"))
    generations = sorted(number for number in listed if number is not None)
    if as_json:
        write_json(_document(dataset, generations))
        return
    write_lines(_heading(dataset, generations))
    for name, table in dataset.tables.items():
        write_lines(["", f"Table {name}", *fields(_facts(table))])
        write_table(render_text(table.summary))


def _document(dataset: Dataset, generations: list[int]) -> dict[str, Any]:
    manifest = dataset.manifest
    return {
        "uri": dataset.uri,
        "job": manifest.job,
        "generation": dataset.generation,
        "generations": generations,
        "created": manifest.created,
        "tokenmill": manifest.tokenmill,
        "fingerprint": dataset.fingerprint,
        "takedown": manifest.takedown or None,
        "tables": {
            name: {
                "tokenizer": {
                    "id": table.tokenizer.config["id"],
                    "config": {key: value for key, value in table.tokenizer.config.items() if key != "id"},
                    "fingerprint": table.tokenizer.fingerprint,
                },
                "streams": {stream: spec.to_json() for stream, spec in table.streams.items()},
                "metadata": dict(table.metadata),
                "sources": list(table.manifest.sources),
                "fingerprint": table.fingerprint,
                "rows": len(table),
                "duplicates": table.manifest.duplicates and table.manifest.duplicates["count"],
                "rejected": table.manifest.rejected,
                "taken_down": table.manifest.taken_down,
                "tokens": dict(table.manifest.tokens),
                "size_bytes": table.manifest.size_bytes,
                "shards": table.manifest.shards["count"],
                "summary": dict(table.summary),
            }
            for name, table in dataset.tables.items()
        },
    }


def _heading(dataset: Dataset, generations: list[int]) -> list[str]:
    manifest = dataset.manifest
    facts = [
        ("job", manifest.job),
        ("generation", f"{dataset.generation} (published: {', '.join(map(str, generations))})"),
        ("published", f"{manifest.created} by tokenmill {manifest.tokenmill}"),
        ("fingerprint", dataset.fingerprint),
    ]
    if manifest.takedown:
        facts.append(("takedown", f"list {manifest.takedown}: no row has a key on it"))
    return [dataset.uri, *fields(facts)]


def _facts(table: Table) -> Iterator[tuple[str, str]]:
    config = {key: value for key, value in table.tokenizer.config.items() if key != "id"}
    yield "tokenizer", " ".join([str(table.tokenizer.config["id"]), *(f"{k}={v!r}" for k, v in config.items())])
    yield "fingerprint", table.tokenizer.fingerprint
    for name, spec in table.streams.items():
        yield "stream", f"{name}: {_stream(spec)}, {table.manifest.tokens[name]:,} values"
    if table.metadata:
        yield "metadata", ", ".join(f"{name}: {kind}" for name, kind in table.metadata.items())
    yield "sources", ", ".join(table.manifest.sources)
    taken_down = f", {table.manifest.taken_down:,} taken down" if table.manifest.taken_down else ""
    yield "rows", f"{len(table):,} ({table.manifest.rejected:,} items rejected{taken_down})"
    if table.manifest.duplicates is not None:
        repeats = table.manifest.duplicates["count"]
        yield "duplicates", f"{repeats:,} of {len(table):,} rows repeat an earlier one"
    yield "size", f"{size(table.manifest.size_bytes)} in {table.manifest.shards['count']:,} shards"


def _stream(spec: StreamSpec) -> str:
    dims = ", ".join(dim if wide is None else f"{dim}={wide}" for dim, wide in zip(spec.dims, spec.shape, strict=True))
    vocabulary = "" if spec.vocabulary_size is None else f", {spec.vocabulary_size:,} ids"
    rate = "" if spec.frame_hz is None else f", {spec.frame_hz:g} frames/s"
    return f"{spec.dtype} ({dims}){vocabulary}{rate}"
