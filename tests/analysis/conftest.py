"""Modules that tests share can be imported from anywhere below; the kernels once more, without wide vectors."""

import ctypes
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cellworker import native

TESTS = str(Path(__file__).parent.parent)
if TESTS not in sys.path:
    sys.path.insert(0, TESTS)


@pytest.fixture(scope="session")
def narrow_kernel(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Any]:
    """The function `cellworker.native.kernel` of a library in which every processor runs the plain version."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(root))
        import hatch_build

        folder = tmp_path_factory.mktemp("narrow")
        library = ctypes.CDLL(str(hatch_build.build(root, folder / "narrow.so", ["-O1", "-DCW_NARROW", "-Werror"])))
    known = native.signatures(native.HEADER.read_text())

    def bind(name: str) -> Any:
        function = library[name]
        function.restype, function.argtypes = known[name].result, list(known[name].arguments)
        return function

    return bind
