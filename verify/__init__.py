"""Proves that sharded MySQL and TiDB hold the same rows and the same money."""
