"""How to install optional packages, in one place, so that all messages and pages agree.

No index has the package yet. Until one does, an extra is installed from a checkout or from a wheel that `make wheel`
built or that a release holds.
"""

__all__ = ["how_to_install"]


def how_to_install(extra: str) -> str:
    """Return the command that installs an extra of `pyproject.toml`."""
    return (
        f"in a checkout: .venv/tools/bin/uv pip install -p .venv -e '.[{extra}]'; "
        f"with a wheel: pip install 'cellworker-VERSION-....whl[{extra}]'"
    )
