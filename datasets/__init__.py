"""Everything between files on disk and uint8 tensors."""
