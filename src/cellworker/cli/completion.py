"""Completion of commands, options and allowed values for bash, zsh and fish, made from the parser."""

import argparse
import re
from collections.abc import Iterator
from dataclasses import dataclass

from cellworker.tasks.catalog import TASKS

__all__ = ["script"]


_PATH = re.compile(r"^(?!JSON).*\b(?:FILE|PATH|FOLDER|SAMPLE|A|B)\b")  # placeholders of what lies on the disk


@dataclass(frozen=True, slots=True)
class _Option:
    """An option's names, allowed values and help; without names it is a positional argument."""

    names: tuple[str, ...]
    values: tuple[str, ...]
    about: str
    free: bool
    """Takes a value that is not one of `values`."""
    path: bool
    """Its value is a file or a folder."""


def script(parser: argparse.ArgumentParser, shell: str) -> str:
    """Return the script for a shell.

    Parameters
    ----------
    parser
        Whose commands.
    shell
        "bash", "zsh" or "fish".
    """
    commands = dict(_commands(parser))
    return {"bash": _bash, "zsh": _zsh, "fish": _fish}[shell](commands)


def _commands(parser: argparse.ArgumentParser) -> Iterator[tuple[str, tuple[str, list[_Option]]]]:
    for action in parser._actions:  # noqa: SLF001 argparse offers no other way to its commands
        if isinstance(action, argparse._SubParsersAction):  # noqa: SLF001
            abouts = {item.dest: item.help or "" for item in action._choices_actions}  # noqa: SLF001
            for name, command in action.choices.items():
                yield name, (abouts.get(name, ""), list(_options(command)))


def _options(command: argparse.ArgumentParser) -> Iterator[_Option]:
    for action in command._actions:  # noqa: SLF001
        values = tuple(map(str, action.choices or ()))
        if not action.option_strings and action.metavar == "TASK":
            values = tuple(TASKS)
        about = re.sub(r"\s+", " ", (action.help or "").replace("%%", "%"))
        free = action.nargs != 0 and not values
        path = free and bool(_PATH.search(str(action.metavar)))
        yield _Option(tuple(action.option_strings), values, about, free, path)


def _takes_files(options: list[_Option]) -> bool:
    """Whether a file can stand where no option's value does."""
    return any(option.path for option in options if not option.names)


def _words(options: list[_Option]) -> str:
    """Return all words that can stand at any place of a command."""
    names = [name for option in options for name in option.names]
    by_place = [value for option in options if not option.names for value in option.values]
    return " ".join([*by_place, *names])


def _cases(commands: dict[str, tuple[str, list[_Option]]], name: str) -> Iterator[str]:
    """Yield shell cases: what follows an option that takes a value, then what a command takes."""
    for command, (_, options) in commands.items():
        for option in options:
            if option.names and (option.values or option.free):
                patterns = "|".join(f'"{command} {flag}"' for flag in option.names)
                yield f'    {patterns}) {name}="{" ".join(option.values)}"; files={_one(option.path)} ;;'
    for command, (_, options) in commands.items():
        yield f'    "{command} "*) {name}="{_words(options)}"; files={_one(_takes_files(options))} ;;'


def _one(value: bool) -> str:  # noqa: FBT001 a switch of the shell
    return "1" if value else '""'


def _bash(commands: dict[str, tuple[str, list[_Option]]]) -> str:
    return "\n".join(
        [
            "_cellworker() {",
            '  local current="${COMP_WORDS[COMP_CWORD]}" previous="${COMP_WORDS[COMP_CWORD-1]}" words="" files=""',
            '  if [ "$COMP_CWORD" -eq 1 ]; then',
            f'    COMPREPLY=($(compgen -W "{" ".join(commands)} --help --version" -- "$current"))',
            "    return",
            "  fi",
            '  case "${COMP_WORDS[1]} $previous" in',
            *_cases(commands, "words"),
            "  esac",
            '  COMPREPLY=($(compgen -W "$words" -- "$current"))',
            '  case "$files$current" in 1-*) return ;; 1*) ;; *) return ;; esac',
            "  local file",  # line by line: names hold spaces, and what the shell would expand
            '  while IFS= read -r file; do COMPREPLY+=("$file"); done < <(compgen -f -- "$current")',
            "}",
            "complete -o filenames -F _cellworker cellworker",
            "",
        ]
    )  # fmt: skip


def _zsh(commands: dict[str, tuple[str, list[_Option]]]) -> str:
    described = " ".join(_quoted(f"{name}:{about}", "'\\''") for name, (about, _) in commands.items())
    return "\n".join(
        [
            "#compdef cellworker",
            "_cellworker() {",
            '  local previous="${words[CURRENT-1]}" said="" files=""',
            f"  local -a commands; commands=({described})",
            "  if (( CURRENT == 2 )); then _describe command commands; return; fi",
            '  case "${words[2]} $previous" in',
            *_cases(commands, "said"),
            "  esac",
            "  compadd -- ${=said}",
            "  [[ -z $files ]] || _files",
            "}",
            # A file of `fpath` is the function itself; sourced, it may be the first to need zsh's completion.
            "if [[ $funcstack[1] == _cellworker ]]; then",
            '  _cellworker "$@"',
            "else",
            "  (( $+functions[compdef] )) || { autoload -Uz compinit && compinit -i -D }",
            "  compdef _cellworker cellworker",
            "fi",
            "",
        ]
    )


def _fish(commands: dict[str, tuple[str, list[_Option]]]) -> str:
    first = "complete -c cellworker -f -n __fish_use_subcommand"
    lines = [f"{first} -s h -l help", f"{first} -l version"]
    for name, (about, options) in commands.items():
        lines.append(f"{first} -a {name} -d {_of_fish(about)}")
        inside = f"complete -c cellworker -n '__fish_seen_subcommand_from {name}'"
        if not _takes_files(options):
            lines.append(f"{inside} -f")
        for option in options:
            values = f" -a {_of_fish(' '.join(option.values))}" if option.values else ""
            flags = "".join(f" -l {flag[2:]}" if flag.startswith("--") else f" -s {flag[1:]}" for flag in option.names)
            takes = " -rF" if option.path else " -x" if option.free or values else ""
            if flags or values:
                lines.append(f"{inside}{flags}{takes if flags else ''}{values} -d {_of_fish(option.about)}")
    return "\n".join([*lines, ""])


def _of_fish(text: str) -> str:
    return _quoted(text.replace("\\", "\\\\"), "\\'")


def _quoted(text: str, apostrophe: str) -> str:
    return "'" + text.replace("'", apostrophe) + "'"
