"""The `aetheris` command."""
