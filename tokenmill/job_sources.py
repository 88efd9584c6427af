"""What a job says of its sources: which files, what they hold, and where in a record the parts of an item are."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

MetadataType = Literal["string", "int64", "float64", "bool"]
SourceFormat = Literal[
    "auto", "jsonl", "parquet", "csv", "tsv", "text", "lines", "tar", "warc", "image", "audio", "llvm-ir"
]
Modality = Literal["text", "image", "audio", "llvm-ir"]
Level = Annotated[int, Field(ge=0, le=255)]
Name = Annotated[
    str,
    Field(
        pattern=r"^[a-z0-9][a-z0-9_-]{0,62}$",
        description="Lower-case letters, digits, '_' and '-'; it becomes part of paths.",
    ),
]

#: What a source of each modality may give as its format.
FORMATS: dict[Modality, tuple[SourceFormat, ...]] = {
    "text": ("auto", "jsonl", "parquet", "csv", "tsv", "text", "lines", "tar", "warc"),
    "image": ("auto", "image", "tar", "parquet"),
    "audio": ("auto", "audio", "tar", "parquet"),
    "llvm-ir": ("auto", "llvm-ir", "tar", "parquet"),
}

#: Fields of a source that sources of one modality alone have.
OF_ONE_MODALITY: dict[str, Modality] = {"background": "image", "channels": "audio", "segments": "audio"}


def member(modality: Modality) -> str:
    """Return the field of `Fields` that a modality has."""
    return modality.replace("-", "_")


class JobModel(BaseModel):
    """Base of what jobs are made of: unknown fields are refused, values do not change."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class Fields(JobModel):
    """Where in a record the parts of an item are."""

    text: str = "text"
    """Column or member that holds the text; a dot descends into nested JSON objects (`document.body`)."""
    image: str = "image"
    """Column or member that holds the image file. Of a Parquet column of `{bytes, path}` it is the `bytes`; in a tar
    file `image` stands for the first of `jpg jpeg png webp gif tif tiff`."""
    audio: str = "audio"
    """Column or member that holds the recording's file. Of a Parquet column of `{bytes, path}` it is the `bytes`; in a
    tar file `audio` stands for the first of `wav flac ogg opus oga mp3 m4a`."""
    llvm_ir: str = "content"
    """Column or member that holds a module of LLVM IR, bitcode or text; in a tar file `content` stands for the first of
    `bc ll`."""
    id: str | None = None
    """Column or member that holds the id. Default: the file's path relative to the source's root (WARC: the record
    id; tar: the member's key)."""

    def of(self, modality: Modality) -> str:
        """Return where the items of a modality are."""
        name: str = getattr(self, member(modality))
        return name


def _metadata_mapping(value: Any) -> Any:
    return dict.fromkeys(value, "string") if isinstance(value, (list, tuple)) else value


class Segments(JobModel):
    """How recordings are cut into stretches of speech, found by voice activity detection."""

    min_seconds: Annotated[float, Field(gt=0, le=600)] = 0.5
    """Stretches with less speech are left out."""
    max_seconds: Annotated[float, Field(ge=1, le=600)] = 30.0
    """No segment is longer: speech that goes on is cut where it sounds least like speech."""
    pause_seconds: Annotated[float, Field(gt=0, le=60)] = 0.5
    """A pause of this length ends a segment."""
    threshold: Annotated[float, Field(ge=0.05, le=0.95)] = 0.5
    """Speech is what the detector finds to be speech with this probability; higher finds less of it."""
    pad_seconds: Annotated[float, Field(ge=0, le=30)] = 0.1
    """Sound that is kept before and after the speech, as far as there is; half a pause at most."""

    @model_validator(mode="after")
    def _lengths_agree(self) -> Segments:
        if 2 * self.min_seconds > self.max_seconds:
            raise ValueError(
                f"`min_seconds` is {self.min_seconds}, more than half of `max_seconds`, which is {self.max_seconds}"
            )
        if 4 * self.pad_seconds > self.max_seconds:
            raise ValueError(
                f"`pad_seconds` is {self.pad_seconds}, more than a quarter of `max_seconds`, which is "
                f"{self.max_seconds}"
            )
        if 2 * self.pad_seconds > self.pause_seconds:
            raise ValueError(
                f"`pad_seconds` is {self.pad_seconds}, more than half of `pause_seconds`, which is "
                f"{self.pause_seconds}: segments would overlap"
            )
        return self


class Source(JobModel):
    """A set of files that hold items of one modality."""

    name: Name
    """The source's name; statistics are kept per source."""
    modality: Modality = "text"
    """What the items are: `text`, `image`, `audio` or `llvm-ir`."""
    uris: Annotated[tuple[str, ...], Field(min_length=1)]
    """Files, directories (all files below) or globs (`**` included) on any fsspec filesystem: local paths, `s3://…`."""
    format: SourceFormat = "auto"
    """`auto` goes by the file's ending. `text` is a file a document, `lines` a line a document; WET is `warc`; `image`
    is a file an image, `audio` a file a recording, `llvm-ir` a file a module. Images are in `image`, `tar` and
    `parquet`, recordings in `audio`, `tar` and `parquet`, modules of LLVM IR in `llvm-ir`, `tar` and `parquet`."""
    fields: Fields = Fields()
    """Where the text, the image or the recording, and the id, are."""
    metadata: Annotated[dict[str, MetadataType], BeforeValidator(_metadata_mapping)] = {}
    """Further columns to carry along: a list of names (kept as strings) or a mapping of names to types."""
    where: dict[str, Annotated[tuple[str, ...], Field(min_length=1)]] = {}
    """Of Parquet files, which rows to read: column names, and for each the values that it may have
    (`{language: [c, c++]}`). Other rows are passed over; they are neither items nor rejects."""
    encoding: str = "utf-8"
    """Character encoding of plain text files. Bytes that do not decode are rejected, never replaced."""
    background: tuple[Level, Level, Level] = (255, 255, 255)
    """Red, green and blue, 0 … 255, that transparent images are laid over."""
    channels: Literal["mix", "first", "each"] = "mix"
    """What of a recording with several channels is tokenized: `mix`, their mean; `first`, the first alone; `each`, an
    item for every channel."""
    segments: Segments | None = None
    """Cuts recordings into stretches of speech, an item each; default whole recordings. `{}` takes all defaults."""

    @model_validator(mode="after")
    def _modality_agrees(self) -> Source:
        formats = FORMATS[self.modality]
        if self.format not in formats:
            raise ValueError(
                f"format {self.format!r} holds no {self.modality}; `modality: {self.modality}` takes "
                f"{', '.join(formats[:-1])} or {formats[-1]}"
            )
        for other in FORMATS:
            if other != self.modality and self.fields.of(other) != Fields().of(other):
                raise ValueError(
                    f"`fields.{member(other)}` is for sources of `modality: {other}`; one of `modality: "
                    f"{self.modality}` has `fields.{member(self.modality)}`"
                )
        for name, modality in OF_ONE_MODALITY.items():
            if modality != self.modality and getattr(self, name) != type(self).model_fields[name].default:
                raise ValueError(f"`{name}` is for sources of `modality: {modality}`")
        return self

    @property
    def cuts_recordings(self) -> bool:
        """Whether one recording may become several items."""
        return self.channels == "each" or self.segments is not None
