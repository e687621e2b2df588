"""What is published: wheels that run where their names say, by a workflow that proves it; and what texts promise."""

import re
import shlex
import struct
import subprocess
import tomllib
import zipfile
from pathlib import Path
from types import ModuleType

import pytest

from cellworker.extras import how_to_install

from .test_workflows import load, workflow


@pytest.fixture
def make_wheels(root: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(root / "scripts")
    monkeypatch.syspath_prepend(root)
    return load(root / "scripts/make_wheels.py")


@pytest.fixture
def library(root: Path) -> bytes:
    content = (root / "src/cellworker/native/_kernels.so").read_bytes()
    if not content.startswith(b"\x7fELF") or content[18:20] != b"\x3e\x00":
        pytest.skip("the kernels of this machine are not those of Linux on x86_64")
    return content


def test_a_library_that_needs_a_newer_glibc_or_another_machine_is_refused(
    make_wheels: ModuleType, library: bytes
) -> None:
    # Compiled here, so it needs what this machine has: never less than 2.2.5, never glibc 99.
    assert make_wheels.elf_problems(library, "manylinux_99_0_x86_64") == []
    assert any("GLIBC_" in line for line in make_wheels.elf_problems(library, "manylinux_2_1_x86_64"))
    assert "it is for x64" in make_wheels.elf_problems(library, "manylinux_99_0_aarch64")
    assert any("libc.so.6" in line for line in make_wheels.elf_problems(library, "musllinux_1_2_x86_64"))


@pytest.mark.parametrize("platform", ["macosx_13_0_x86_64", "macosx_13_0_arm64"])
def test_a_library_for_macos_is_told_by_its_processor(make_wheels: ModuleType, platform: str) -> None:
    headers = {"x86_64": 0x01000007, "arm64": 0x0100000C}
    for name, processor in headers.items():
        problems = make_wheels.macho_problems(struct.pack("<II", 0xFEEDFACF, processor), platform)
        assert bool(problems) is not platform.endswith(name)


def test_the_kernels_compute_with_the_functions_of_the_c_library(make_wheels: ModuleType, library: bytes) -> None:
    imported, defined = make_wheels.elf_names(library)
    assert "cw_libm" in defined
    assert make_wheels.libm_problems(imported, defined) == []


def test_a_wheel_with_its_own_logarithm_is_refused(
    make_wheels: ModuleType, root: Path, tmp_path: Path, library: bytes
) -> None:
    """A compiler's runtime may define what the C library defines; then last bits are the compiler's."""
    compiler = load(root / "hatch_build.py").find_compiler()
    source, made = tmp_path / "own.c", tmp_path / "own.so"
    source.write_text(
        "double log(double x); double exp2(double x); double pow(double x, double y);\n"
        "double exp(double x) { return 1.0 + x; }\n"
        "double call(double x) { return log(x) + exp2(x) + pow(x, x) + exp(x); }\n"
    )
    subprocess.run([*compiler, "-shared", "-fPIC", "-O1", "-fno-builtin", source, "-o", made, "-lm"], check=True)
    problems = make_wheels.libm_problems(*make_wheels.elf_names(made.read_bytes()))
    absent = make_wheels.USED - {"log", "pow"}
    assert problems == [*(f"it has its own {name}" for name in sorted(absent)), "it calls exp2, as no kernel does"]
    # A stripped library does not say what it defines: what it lacks gives it away.
    subprocess.run([*compiler, "-shared", "-fPIC", "-fno-builtin", "-Wl,-s", source, "-o", made, "-lm"], check=True)
    assert "it has its own expm1" in make_wheels.libm_problems(*make_wheels.elf_names(made.read_bytes()))

    wheel = tmp_path / "cellworker-0-py3-none-manylinux_99_0_x86_64.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for name in ("cellworker/local/page/bundle/index.html", "cellworker/py.typed"):
            archive.writestr(name, "")
        archive.writestr(make_wheels.LIBRARY, made.read_bytes())
    with pytest.raises(make_wheels.SetupError, match="it has its own exp;"):
        make_wheels.check_wheel(wheel, "manylinux_99_0_x86_64")


def test_names_in_a_library_of_macos_are_read(make_wheels: ModuleType) -> None:
    strings = b"\0_log\0_exp\0___exp10\0"
    symbols = b"".join(
        struct.pack("<IBBHQ", strings.index(name + b"\0"), kind, 0, 0, 0)
        for name, kind in ((b"_log", 0x01), (b"_exp", 0x0E), (b"___exp10", 0x01))
    )
    other = struct.pack("<IIQ", 0x1B, 16, 0)  # a command before, to pass over
    start = 32 + len(other) + 24
    table = struct.pack("<IIIIII", 0x2, 24, start, 3, start + len(symbols), len(strings))
    header = struct.pack("<IIIIIIII", 0xFEEDFACF, 0x0100000C, 0, 6, 2, len(other) + len(table), 0, 0)
    names = make_wheels.macho_names(header + other + table + symbols + strings)
    assert names == ({"log", "exp10"}, {"exp"})
    assert {"it has its own exp", "it calls exp10, as no kernel does"} <= set(make_wheels.libm_problems(*names))


def test_every_function_that_kernels_call_is_looked_for_and_asked_for_by_version(
    make_wheels: ModuleType, root: Path
) -> None:
    native = root / "src/cellworker/native"
    called: set[str] = set()
    for path in sorted(native.rglob("*.[ch]")):
        code = re.sub(r"/\*.*?\*/|//[^\n]*", "", path.read_text(), flags=re.DOTALL)
        called |= set(re.findall(r"\b([a-z]\w*)\(", code)) & make_wheels.ROUNDED
        # They are in the compiler's runtime, which brings its own exp and log with it.
        assert not re.search(r"__builtin_cpu_|target_clones", code), path.name
    assert called == make_wheels.USED
    header = (native / "include/c_library.h").read_text()
    assert set(re.findall(r"^CW_VERSION\((\w+), CW_", header, re.MULTILINE)) >= make_wheels.USED


@pytest.mark.parametrize("left_out", ["_kernels.so", "index.html"])
def test_a_wheel_without_kernels_or_page_is_refused(make_wheels: ModuleType, left_out: str, tmp_path: Path) -> None:
    wheel = tmp_path / "cellworker-0-py3-none-manylinux_2_17_x86_64.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for name in (make_wheels.LIBRARY, "cellworker/local/page/bundle/index.html", "cellworker/py.typed"):
            if not name.endswith(left_out):
                archive.writestr(name, "")
    with pytest.raises(make_wheels.SetupError, match=f"lacks .*{re.escape(left_out)}"):
        make_wheels.check_wheel(wheel, "manylinux_2_17_x86_64")


def test_a_platform_that_there_are_no_wheels_for_is_refused(
    make_wheels: ModuleType, root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert make_wheels.main(["win_amd64"]) == 2
    assert "found win_amd64" in capsys.readouterr().err
    monkeypatch.setenv("CELLWORKER_WHEEL_FOR", "win_amd64")
    with pytest.raises(RuntimeError, match="found 'win_amd64'"):
        load(root / "hatch_build.py").wheel_platform()


# ---- the workflow


def test_each_platform_is_built_tried_and_only_then_published(make_wheels: ModuleType, root: Path) -> None:
    jobs = workflow(root)["jobs"]
    assert any(step.get("run", "").startswith("make wheel") for step in jobs["wheels"]["steps"])
    tried = jobs["wheel-runs"]["strategy"]["matrix"]["include"]
    assert sorted(entry["wheel"] for entry in tried) == sorted(make_wheels.PLATFORMS)
    for entry in tried:
        assert entry["runner"].startswith("macos" if "macosx" in entry["wheel"] else "ubuntu")
        assert ("alpine" in entry["image"]) is entry["wheel"].startswith("musllinux")
        assert ("arm" in entry["runner"]) is entry["wheel"].endswith("aarch64")
    runs = [step["run"] for step in jobs["wheel-runs"]["steps"] if "run" in step]
    assert len(runs) == 2
    assert all("scripts/try_wheel.py" in run for run in runs)
    assert jobs["wheel-runs"]["needs"] == "wheels"


def test_publishing_needs_all_tests_a_release_and_no_secret(root: Path) -> None:
    jobs = workflow(root)["jobs"]
    index = jobs["index"]
    assert index["if"] == "github.event_name == 'release'"
    assert {"test", "sanitizers", "lowest", "wheels", "wheel-runs"} <= set(index["needs"])
    assert index["permissions"] == {"id-token": "write"}
    assert index["environment"] == "pypi"
    # Whoever can name the index's identity runs nothing of the repository: no checkout, no command of a shell.
    assert not any("run" in step or "actions/checkout" in step["uses"] for step in index["steps"])
    (publish,) = [step for step in index["steps"] if "gh-action-pypi-publish" in step["uses"]]
    assert publish["with"]["attestations"] is True
    assert "secrets." not in str(index)
    assert not {"password", "user", "repository-url", "skip-existing"} & set(publish["with"])
    trusted = {name for name, job in jobs.items() if "id-token" in job.get("permissions", {})}
    assert trusted == {"index", "image", "publish"}
    assert jobs["wheels"]["permissions"] == jobs["wheel-runs"]["permissions"] == {"contents": "read"}


def test_a_release_of_another_version_stops_before_it_is_published(root: Path, tmp_path: Path) -> None:
    steps = {step.get("name"): step for step in workflow(root)["jobs"]["wheels"]["steps"]}
    step = steps["A release is of the version that it is tagged with"]
    assert step["if"] == "github.event_name == 'release'"
    (tmp_path / "dist").mkdir()
    (tmp_path / "dist/cellworker-1.2.3.tar.gz").touch()
    for version, status in (("1.2.3", 0), ("1.2.4", 1)):
        done = subprocess.run(["bash", "-c", step["run"]], cwd=tmp_path, env={"VERSION": version}, check=False)
        assert done.returncode == status


def test_what_merges_needs_everything_and_counts_what_was_skipped(root: Path) -> None:
    jobs = workflow(root)["jobs"]
    only_later = {"done", "tags", "publish", "deploy", "index"}
    assert set(jobs["done"]["needs"]) == set(jobs) - only_later
    (step,) = jobs["done"]["steps"]
    assert jobs["done"]["if"] == "always()"
    assert all(f"'{result}'" in step["if"] for result in ("failure", "cancelled", "skipped"))


# ---- what texts say about installing

INSTALLS = re.compile(
    r"(?:\bpip3? install|\bpipx (?:install|run)|\buvx|\buv (?:tool (?:run|install)|add)|\bconda install)[^\n]*"
)
NAMED = re.compile(r"cellworker(?:\[[\w,-]+\])?(?:[=<>~!].*)?")
EXTRAS = re.compile(r"(?:\.whl|\)|\B\.)\[([\w,-]+)\]")


def by_name(line: str) -> bool:
    """Whether a command takes cellworker from an index, by its name alone."""
    command = re.split(r"[;`]|\s#|&&", line)[0]
    if command.startswith("uvx") or " run" in command.split("cellworker")[0]:
        return "cellworker" in command and ".whl" not in command
    return any(NAMED.fullmatch(word.strip("\"',.()")) for word in command.split()[1:])


@pytest.mark.parametrize(
    ("line", "wrong"),
    [
        ("pip install 'cellworker[notebook]'", True),
        ('pip install "cellworker[dask]", on the workers', True),
        ("pip install cellworker", True),
        ("pip install cellworker==1.0 scanpy", True),
        ("uvx cellworker run x.h5ad", True),
        ("uv tool install cellworker", True),
        ("uvx --from dist/cellworker-VERSION-....whl cellworker run x.h5ad", False),
        ("pip install 'dist/cellworker-VERSION-....whl[notebook]'", False),
        ("uv pip install -p .venv -e '.[cassia]'", False),
        ('pip install "$(ls dist/*.whl)[platform]"', False),
        ("pip install dask-kubernetes`), with an image that holds `cellworker[dask]`", False),
    ],
)
def test_what_needs_an_index_is_told_from_what_does_not(line: str, wrong: bool) -> None:
    found = INSTALLS.search(line)
    assert found
    assert by_name(found[0]) is wrong


def test_no_text_promises_what_no_index_has(root: Path) -> None:
    """No index has the package yet: a command that installs it names a checkout or a built wheel, and a true extra."""
    listed = subprocess.run(["git", "ls-files"], cwd=root, capture_output=True, text=True, check=True).stdout.split(
        "\n"
    )
    kinds = {".md", ".py", ".toml", ".yaml", ".yml", ".ts", ".tsx", ".sh", ".ipynb", ".txt"}
    # The history says what was said; this file says what is wrong.
    spared = {"CHANGELOG.md", Path(__file__).relative_to(root).as_posix()}
    extras = tomllib.loads((root / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    seen = 0
    for name in listed:
        if Path(name).suffix not in kinds or name in spared:
            continue
        for found in INSTALLS.finditer((root / name).read_text(encoding="utf-8")):
            seen += "cellworker" in found[0] or ".[" in found[0]
            assert not by_name(found[0]), f"{name}: {found[0]}"
            for group in EXTRAS.findall(found[0]):
                assert group.startswith("{") or set(group.split(",")) <= set(extras), f"{name}: {found[0]}"
    assert seen > 5


def test_the_advice_of_messages_is_a_command_that_a_shell_takes() -> None:
    for part in how_to_install("notebook").split("; "):
        words = shlex.split(part.split(": ", 1)[1])
        assert "install" in words
        assert words[-1].endswith("[notebook]")
        assert not by_name(part)
