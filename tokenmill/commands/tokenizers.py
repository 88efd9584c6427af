"""`tokenmill tokenizers`: which tokenizers there are, and how each is configured."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Any, get_args

import typer

from tokenmill.commands.output import AsJson, fields, write_json, write_lines
from tokenmill.errors import TokenizerError, TokenmillError

if TYPE_CHECKING:
    from pydantic import BaseModel

    from tokenmill.contract import Tokenizer


def tokenizers(
    name: Annotated[str | None, typer.Argument(metavar="[ID]", help="Show this tokenizer's configuration.")] = None,
    as_json: AsJson = False,
) -> None:
    """List the installed tokenizers, or show the configuration of one (with --json: its JSON schema)."""
    from tokenmill.registry import tokenizer_class

    if name is None:
        found = _list()
        if as_json:
            write_json(found)
        else:
            width = max((len(one["id"]) for one in found), default=0)
            write_lines(fields([(f"{one['id']:<{width}}  {one['modality'] or '?'}", _line(one)) for one in found], ""))
        return
    kind = tokenizer_class(name)
    if as_json:
        write_json({**kind.model_json_schema(), "$schema": "https://json-schema.org/draft/2020-12/schema"})
    else:
        write_lines(_describe(kind))


def _list() -> list[dict[str, Any]]:
    from tokenmill.registry import tokenizer_class, tokenizer_names

    found: list[dict[str, Any]] = []
    for name in tokenizer_names():
        one: dict[str, Any] = {"id": name, "modality": None, "description": None, "problem": None}
        try:
            kind = tokenizer_class(name)
        except TokenmillError as error:  # one broken plug-in must not hide the others
            one["problem"] = str(error) if isinstance(error, TokenizerError) else f"{error.what}; {error.fix}"
        else:
            one["modality"], one["description"] = kind.modality, _summary(kind)
        found.append(one)
    return found


def _line(one: dict[str, Any]) -> str:
    return one["description"] if one["problem"] is None else f"not usable: {one['problem']}"


def _summary(kind: type[BaseModel]) -> str:
    return (kind.__doc__ or "").strip().partition("\n")[0]


def _describe(kind: type[Tokenizer]) -> list[str]:
    lines = [f"{kind.id} ({kind.modality}): {_summary(kind)}", ""]
    if not kind.model_fields:
        return [*lines, "  It has no configuration."]
    return [*lines, *_fields(kind, "  ")]


def _fields(kind: type[BaseModel], indent: str) -> list[str]:
    """Return a config's fields, and below each those of the mappings that it may be."""
    from pydantic import BaseModel

    lines = []
    for name, field in kind.model_fields.items():
        default = "required"
        if not field.is_required():
            value = field.get_default(call_default_factory=True)
            shown = value.model_dump(mode="json", exclude_none=True) if isinstance(value, BaseModel) else value
            default = f"default {shown!r}"
        lines.append(f"{indent}{name}: {_type(field.annotation)}, {default}")
        if field.description:
            lines.append(f"{indent}    {' '.join(field.description.split())}")
        for nested in _nested(field.annotation):
            lines += [f"{indent}    {nested.__name__}: {_summary(nested)}", *_fields(nested, f"{indent}      ")]
    return lines


def _nested(annotation: Any) -> list[type[BaseModel]]:
    """Return the mappings among the types that a field may be."""
    from pydantic import BaseModel

    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [nested for argument in get_args(annotation) for nested in _nested(argument)]


def _type(annotation: Any) -> str:
    """Return a type as one writes it: `str | None`, `Literal['a', 'b']`."""
    if isinstance(annotation, type) and not hasattr(annotation, "__args__"):
        return annotation.__name__
    import types
    import typing

    arguments = typing.get_args(annotation)
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        return " | ".join("None" if argument is type(None) else _type(argument) for argument in arguments)
    if typing.get_origin(annotation) is typing.Literal:
        return " | ".join(map(repr, arguments))
    return re.sub(r"\b(?:\w+\.)+(\w+)", r"\1", str(annotation))
