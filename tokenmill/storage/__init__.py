"""Storage: the user's corpora (`inputs`, read only) and one dataset's files (`outputs`), local or in object storage."""
