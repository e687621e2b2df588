"""What shells offer where, asked of the shells themselves."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from cellworker.cli.main import main

FORMATS = {"csv", "tsv", "parquet", "json", "h5ad"}
FILES = {"pbmc.rds"}

CASES = [
    ("cellworker ", {"markers", "call", "replay"}, FILES | {"csv"}),
    ("cellworker mark", {"markers"}, {"call"} | FILES),
    ("cellworker markers ", FILES, FORMATS | {"call"}),
    ("cellworker markers file --b", {"--by"}, FILES | {"--n"}),
    ("cellworker markers file --format ", FORMATS, FILES | {"--by"}),
    ("cellworker markers file --by ", set(), FILES | FORMATS | {"--n", "--out"}),
    ("cellworker markers file --out p", FILES, FORMATS | {"--by"}),
    ("cellworker tasks Cluster", {"ClusterCells", "ClusterSubset"}, FILES | {"ListGenes"}),
    ("cellworker completion ", {"bash", "zsh", "fish"}, FILES),
]
"""A line, what is offered at its end, and what is not."""

ESCAPES = re.compile(r"\x1b(?:\][^\x07\x1b]*(?:\x07|\x1b\\)|[\[(?][0-9;?>=]*[A-Za-z]|[=>])|[\r\x07]")
IN_A_TERMINAL = "import pty, sys; pty.spawn(sys.argv[1:])"
ZSH = r"""
shown() {{ print -r -- "<$BUFFER>shown"; BUFFER="" }}
zle -N shown; bindkey '^O' shown; LISTMAX=10000; {load}
print loa''ded
"""


def bash(line: str, script: Path) -> set[str]:
    words = line.split(" ")
    command = f""". {script}
COMP_WORDS=({" ".join(words[:-1])} "{words[-1]}"); COMP_CWORD={len(words) - 1}; _cellworker
printf '%s\\n' "${{COMPREPLY[@]}}" """
    done = subprocess.run(["bash", "-c", command], text=True, capture_output=True, check=True, cwd=script.parent)
    return set(done.stdout.split())


def fish(line: str, script: Path) -> set[str]:
    command = ["fish", "--no-config", "-c", f"source {script}; complete -C '{line}'"]
    done = subprocess.run(command, text=True, capture_output=True, check=True, cwd=script.parent)
    return {offered.partition("\t")[0] for offered in done.stdout.splitlines()}


def zsh(line: str, script: Path, load: str = ". {script}") -> set[str]:
    """Type the line and a tab in a terminal; a key of ours tells when all is written."""
    environment = {**os.environ, "TERM": "xterm", "PS1": "", "HOME": str(script.parent)}
    command = [sys.executable, "-c", IN_A_TERMINAL, "zsh", "-f", "-i"]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=script.parent, env=environment
    ) as terminal:

        def told(keys: str, end: str) -> str:
            terminal.stdin.write(keys.encode())
            terminal.stdin.flush()
            said = b""
            while end.encode() not in said:
                said += os.read(terminal.stdout.fileno(), 1 << 16) or pytest.fail(f"zsh ended: {said!r}")
            return ESCAPES.sub(" ", said.decode())

        told(ZSH.format(load=load.format(script=script)), "loaded")
        text = told(f"{line}\t\x0f", ">shown")
        terminal.communicate(b"exit\n", timeout=120)
    return set(re.split(r"[\s<>]+", text)) - set(line.split()) - {"", "shown"}


SHELLS: dict[str, Callable[[str, Path], set[str]]] = {"bash": bash, "zsh": zsh, "fish": fish}


def script_of(shell: str, folder: Path, capsys) -> Path:
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    assert main(["completion", shell]) == 0
    path = folder / "_cellworker"
    path.write_text(capsys.readouterr().out)
    (folder / "pbmc.rds").touch()
    return path


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize(("line", "offered", "not_offered"), CASES)
def test_a_shell_offers_what_can_stand_there(shell, line, offered, not_offered, tmp_path, capsys) -> None:
    found = SHELLS[shell](line, script_of(shell, tmp_path, capsys))
    assert offered <= found
    assert not not_offered & found


def test_zsh_takes_the_script_from_its_function_path_at_the_first_tab(tmp_path, capsys) -> None:
    script = script_of("zsh", tmp_path, capsys)
    load = f"fpath=({script.parent} $fpath); autoload -Uz compinit; compinit -u -D"
    assert "markers" in zsh("cellworker mark", script, load)


@pytest.mark.parametrize("shell", SHELLS)
def test_help_with_apostrophes_is_quoted(shell, capsys) -> None:
    assert main(["completion", shell]) == 0
    text = capsys.readouterr().out
    assert "markers" in text
    assert "cells sample" not in text


def test_bash_offers_names_of_files_as_they_are(tmp_path: Path, capsys) -> None:
    names = {"my data.h5ad", "$(touch pwned).h5ad", "*.h5ad", "it's.h5ad"}
    for name in names:
        (tmp_path / name).touch()
    assert main(["completion", "bash"]) == 0
    command = f"""{capsys.readouterr().out}
COMP_WORDS=(cellworker markers ""); COMP_CWORD=2; _cellworker; printf '%s\\n' "${{COMPREPLY[@]}}" """
    done = subprocess.run(["bash", "-c", command], text=True, capture_output=True, check=True, cwd=tmp_path)
    assert {line for line in done.stdout.splitlines() if not line.startswith("-")} == names
    assert {path.name for path in tmp_path.iterdir()} == names
