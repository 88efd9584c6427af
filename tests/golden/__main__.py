"""`python -m tests.golden`: write the golden files that are missing."""

from tests.golden import write_missing

write_missing()
