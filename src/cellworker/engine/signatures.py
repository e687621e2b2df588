"""What tells, without reading them, that the files of an experiment may have changed."""

from pathlib import Path

__all__ = ["Signature", "signature_of"]

Signature = tuple[tuple[str, int, int, int], ...]
"""Name, time of the last change (ns), size and inode of each file."""


def signature_of(path: Path) -> Signature:
    """Return name, time, size and inode of what an experiment is read from; it differs once the content may differ.

    Cell sets and progress notes (``.json``) change all the time and are not read by the engine; hidden files are
    downloads under way.
    """
    try:
        entries = [entry for entry in path.iterdir() if entry.suffix != ".json"] if path.is_dir() else [path]
        stats = [(entry, entry.stat()) for entry in sorted(entries) if not entry.name.startswith(".")]
    except OSError:
        return ()
    return tuple((entry.name, stat.st_mtime_ns, stat.st_size, stat.st_ino) for entry, stat in stats)
