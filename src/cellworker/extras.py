"""How optional packages are installed, in one place: every message and page says it the same way, and truly.

No index has the package yet. Until one does, an extra is installed from a checkout or from a wheel that `make wheel`
built or that a release holds.
"""

__all__ = ["how_to_install"]


def how_to_install(extra: str) -> str:
    """Return what to say to get an extra of `pyproject.toml`."""
    return (
        f"in a checkout: .venv/tools/bin/uv pip install -p .venv -e '.[{extra}]'; "
        f"with a wheel: pip install 'cellworker-VERSION-....whl[{extra}]'"
    )
