"""TFDS builders: local and downloaded files to array_record datasets."""
