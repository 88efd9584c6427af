"""Sound: files of it, decoding, one channel at a tokenizer's rate, and what every audio tokenizer shares."""
