"""The built-in tokenizers, a module each, and the engines under them."""
