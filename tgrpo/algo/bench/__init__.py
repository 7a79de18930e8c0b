"""Benches on problems whose answers are known exactly: ``tgrpo bench``."""
