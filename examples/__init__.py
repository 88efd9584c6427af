"""Examples: jobs, the demo's data, and a tokenizer of one's own."""
