"""How to install optional packages, in one place, so that all messages and pages agree.

No index has the package yet. Until then, install an extra from a checkout, or from a wheel of `make wheel` or of a
release.
"""

__all__ = ["how_to_install"]


def how_to_install(extra: str) -> str:
    """Return the command that installs an extra of `pyproject.toml`."""
    return (
        f"in a checkout: .venv/tools/bin/uv pip install -p .venv -e '.[{extra}]'; "
        f"with a wheel: pip install 'cellworker-VERSION-....whl[{extra}]'"
    )
