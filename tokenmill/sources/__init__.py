"""Sources: from uris to splits, and from a split to batches of items."""
