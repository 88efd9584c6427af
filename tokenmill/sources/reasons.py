"""Why an item has no row: the fixed list of reasons that readers give. docs/operations.md repeats it for operators.

Decoding images (`tokenmill.images.reasons`) and sound (`tokenmill.audio.reasons`), reading LLVM IR
(`tokenmill.ir.reasons`) and tokenizers add reasons of their own; those are not listed here.
"""

from __future__ import annotations

#: A line is not JSON (or holds what JSON cannot: NaN, a bare control character, nesting beyond reason).
INVALID_JSON = "invalid_json"
#: A line is JSON, but not an object.
NOT_AN_OBJECT = "not_an_object"
#: The text, image or recording is absent; or the id is absent or null where the job names an id field.
MISSING_FIELD = "missing_field"
#: The text is null.
NULL_TEXT = "null_text"
#: The image is null.
NULL_IMAGE = "null_image"
#: The recording is null.
NULL_AUDIO = "null_audio"
#: The module of LLVM IR is null.
NULL_IR = "null_ir"
#: Text, image, recording, id or a metadata column is of a type that the job does not allow there.
WRONG_TYPE = "wrong_type"
#: Bytes do not decode in the source's encoding, or an escape stands for half a surrogate pair.
INVALID_UTF8 = "invalid_utf8"
#: The item is larger than `limits.max_item_bytes` (a file of one recording: than `limits.max_audio_bytes`). It was
#: passed over in pieces, never held whole.
ITEM_TOO_LARGE = "item_too_large"
#: The id or a metadata value is larger than `limits.max_metadata_bytes`.
METADATA_TOO_LARGE = "metadata_too_large"
#: A record of a CSV or TSV file breaks the format's rules (a bare carriage return).
INVALID_CSV = "invalid_csv"
#: A row of a CSV or TSV file has more or fewer values than the header has names.
WRONG_COLUMN_COUNT = "wrong_column_count"
#: A sample in a tar file has two members with the same extension.
DUPLICATE_MEMBER = "duplicate_member"
#: The HTTP response in a WARC record cannot be taken apart.
INVALID_HTTP = "invalid_http"
#: A recording that was to be cut into stretches of speech has none.
NO_SPEECH = "no_speech"
#: A file breaks off, or is damaged from some place on; the items before that place are kept.
TORN_FILE = "torn_file"
#: A file is not at all what its format says it is; nothing of it could be read.
UNREADABLE_FILE = "unreadable_file"

REASONS = (
    INVALID_JSON,
    NOT_AN_OBJECT,
    MISSING_FIELD,
    NULL_TEXT,
    NULL_IMAGE,
    NULL_AUDIO,
    NULL_IR,
    WRONG_TYPE,
    INVALID_UTF8,
    ITEM_TOO_LARGE,
    METADATA_TOO_LARGE,
    INVALID_CSV,
    WRONG_COLUMN_COUNT,
    DUPLICATE_MEMBER,
    INVALID_HTTP,
    NO_SPEECH,
    TORN_FILE,
    UNREADABLE_FILE,
)

#: Characters of the input that a message quotes at most.
QUOTED_CHARACTERS = 200


def quote(value: object) -> str:
    """Return the start of a piece of input, printable, for a message."""
    if isinstance(value, (bytes, bytearray, memoryview)):
        text = bytes(value[:QUOTED_CHARACTERS]).decode("utf-8", "backslashreplace")
    else:
        text = str(value)
    shown = repr(text[:QUOTED_CHARACTERS])
    return shown if len(shown) <= 2 * QUOTED_CHARACTERS else shown[: 2 * QUOTED_CHARACTERS]
