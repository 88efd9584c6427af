"""Images: files to pixels, geometry, and what tokenizers of images share."""
