"""Hashes of large models, remembered between runs in the user's cache folder.

An entry's key is itself a hash, of names, sizes, inodes and times. See `edge_sdk.system.user_cache`.
"""

from pathlib import Path

from edge_sdk.system import user_cache


def path() -> Path | None:
    """``edge-sdk/model-digests.json`` in the user's cache folder, if there is one."""
    return user_cache.place_of("model-digests.json")


def recall(key: str) -> str | None:
    """The hash that was remembered for a key, if there is one."""
    return user_cache.recall(path(), user_cache.is_hash).get(key)


def remember(key: str, digest: str) -> None:
    """Keep a hash for later runs, where there is a private place to keep it."""
    user_cache.remember(path(), key, digest, user_cache.is_hash)
