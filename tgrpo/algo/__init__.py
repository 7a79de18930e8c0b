"""The arithmetic of TGRPO: pure functions of tensors, without state and without settings."""
