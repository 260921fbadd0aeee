"""Pre-training of a small TabPFN on synthetic tables."""
