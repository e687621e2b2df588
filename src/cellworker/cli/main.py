"""The command line: it wires the parts together.

Every command is a module of `commands` that is imported when it runs, so that ``cellworker --help`` answers at
once. Exit status: 0 done, 1 refused (one sentence on standard error, with its code), 2 wrong usage or no readable
experiment, 70 a bug of ours, 130 stopped from the keyboard.
"""

import argparse
import importlib
import sys
import traceback
from collections.abc import Callable, Sequence
from types import TracebackType

from cellworker.cli.methods import METHODS, add_method_arguments
from cellworker.cli.numbers import number, path_of, port, positive_number, whole_number
from cellworker.cli.streams import drop, open_streams
from cellworker.errors import ErrorCode, WorkerError
from cellworker.plain_text import say, shown
from cellworker.version import __version__

__all__ = ["main", "parser_for"]

DONE, REFUSED, UNUSABLE, BUG, INTERRUPTED = 0, 1, 2, 70, 130

_UNREADABLE = frozenset({ErrorCode.EXPERIMENT_NOT_FOUND, ErrorCode.EXPERIMENT_UNREADABLE})

_BODY_HELP = "the request's fields as JSON, @FILE, or @- for standard input; 'cellworker tasks TASK' lists them"


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status."""
    arguments = sys.argv[1:] if argv is None else list(argv)
    options: argparse.Namespace | None = None
    open_streams()
    try:
        options, unknown = parser_for(arguments).parse_known_args(arguments)
        if unknown:
            from cellworker.cli.unknown_names import unknown_arguments  # noqa: PLC0415 only where something is wrong

            options.parser.error(unknown_arguments(unknown, options.parser))
        if "check_use" in options:
            options.check_use(options)
    except SystemExit as stop:  # argparse has said what is wrong, or has helped
        return _flushed(int(stop.code or 0))
    except KeyboardInterrupt:  # arguments of a method are read from its signature, which is slow to import
        return INTERRUPTED
    try:
        return _flushed(_guarded(options))
    except Exception:  # --debug wants its traceback
        sys.excepthook = _tell_traceback
        raise


def _guarded(options: argparse.Namespace) -> int:
    try:
        command: Callable[[argparse.Namespace], int] = importlib.import_module(
            f"cellworker.cli.commands.{options.module}"
        ).command
        return command(options)
    except WorkerError as error:
        if options.debug:
            raise
        _say(str(error))
        return UNUSABLE if error.code in _UNREADABLE else REFUSED
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:  # the reader of our output has closed it, which is no error
        drop(sys.stdout)
        return DONE
    except OSError as error:
        if options.debug:
            raise
        _say(_about_system(error))
        return REFUSED
    except Exception as error:
        if options.debug:
            raise
        from cellworker.cli.bug import save_traceback  # noqa: PLC0415

        what = f"{ErrorCode.PYTHON_WORKER_ERROR}: an unexpected error ({type(error).__name__}), a bug of cellworker"
        _say(f"{what}; the details are in {save_traceback(error)}, and --debug shows them here")
        return BUG


def _tell_traceback(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    sys.stderr.write(shown("".join(traceback.format_exception(kind, error, trace))))


def _say(sentence: str) -> None:
    try:
        say(sentence, file=sys.stderr, flush=True)
    except OSError:  # nothing reads the pipe; the exit status says it too
        drop(sys.stderr)


def _flushed(status: int) -> int:
    """Flush the output and return the exit status; after a failed flush Python would end with status 120."""
    try:
        sys.stderr.flush()  # argparse has left there what it could not write
    except (OSError, ValueError):
        drop(sys.stderr)
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        drop(sys.stdout)
    except ValueError:  # closed already
        pass
    except OSError as error:
        drop(sys.stdout)
        _say(_about_system(error))
        return status or REFUSED
    return status


def _about_system(error: OSError) -> str:
    import errno  # noqa: PLC0415

    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"{ErrorCode.DISK_FULL}: there is no space left for {error.filename or 'a file'}"
    place = f"{error.filename}: " if error.filename else ""
    return f"{ErrorCode.INVALID_INPUT}: {place}{error.strerror or error}"


def parser_for(arguments: Sequence[str]) -> argparse.ArgumentParser:
    """Return the parser of a command line; of the commands made from methods only the named one has its arguments.

    Their methods' imports take long, so only the named command is filled in.
    """
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--debug", action="store_true", help="show the traceback of an error")
    parser = argparse.ArgumentParser(
        prog="cellworker",
        description="Answers the analysis requests of the Cellenics single-cell platform: no R, no cloud, no waiting.",
        epilog="'cellworker COMMAND --help' tells more; 'cellworker run' is a good first step.",
    )
    parser.add_argument("--version", action="version", version=f"cellworker {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    def add(name: str, module: str, about: str) -> argparse.ArgumentParser:
        command = commands.add_parser(name, parents=[common], help=about, description=f"{about[0].upper()}{about[1:]}.")
        command.set_defaults(module=module, parser=command)
        return command

    run = add("run", "run", "serve an experiment on this machine, with everything embedded")
    run.add_argument(
        "experiment",
        nargs="?",
        metavar="PATH|ID",
        help="a file, a folder, or the id of an experiment under DATA_DIR; without it EXPERIMENT_ID, else the sample",
    )
    run.add_argument("--port", type=port, help="port to listen on (PORT, 4000); 0 takes a free one")

    run.add_argument(
        "--prepare",
        action="store_true",
        help="of raw counts: prepare an experiment first ('cellworker prepare')",
    )
    run.add_argument("--no-browser", action="store_true", help="do not open the explorer in a browser")

    engine = add("engine", "engine", "serve an experiment over the engine's HTTP surface only")
    engine.add_argument(
        "path",
        nargs="?",
        metavar="PATH",
        help="a folder with r.qs, r.rds or matrices, or .rds, .qs, .h5ad, .zarr, .h5, .loom, .h5mu; "
        "without it the pod's in DATA_DIR",
    )
    _add_matrices(run)
    _add_matrices(engine)
    engine.add_argument("--port", type=port, help="port to listen on (PORT, 4000); 0 takes a free one")

    probe = add("probe", "probe", "tell by the exit status whether an engine answers on a port of this machine")
    probe.add_argument("--port", type=port, help="its port (PORT, 4000)")
    probe.add_argument("--ready", action="store_true", help="whether it serves an experiment, not only lives")

    add("gateway", "gateway", "take requests from the platform's queue, have the engine answer them")
    add("worker", "worker", "the gateway and its engine together: a whole worker in one container")

    _add_answering(add)
    _add_files(add)
    _add_prepare(add("prepare", "prepare", "make an experiment of samples' raw counts"))

    for name, (_, about) in METHODS.items():
        method = add(name, "method", about)
        method.set_defaults(method_command=name)
        if name in arguments:
            _add_method(method, name)

    _add_about_here(add)
    return parser


def _add_answering(add: Callable[[str, str, str], argparse.ArgumentParser]) -> None:
    call = add("call", "call", "answer one request in this process")
    call.add_argument(
        "--experiment", type=path_of, metavar="PATH", help="a file or folder; without it the bundled sample"
    )
    _add_matrices(call)
    _add_request(call, several=True)

    submit = add("submit", "submit", "send one request to a running worker and wait for the result")
    submit.add_argument("--url", help="where 'cellworker run' listens (http://127.0.0.1:PORT)")
    submit.add_argument(
        "--timeout", type=positive_number, default=1800.0, metavar="SECONDS", help="how long to wait (1800)"
    )
    _add_request(submit)

    replay = add("replay", "replay", "ask again what made a file, or a request that DEBUG_STEP saved")
    replay.add_argument(
        "file", type=path_of, metavar="FILE",
        help="a result of ours with its record in it or beside it, or what was saved under DATA_DIR/debug",
    )  # fmt: skip
    replay.add_argument(
        "--experiment", type=path_of, metavar="PATH",
        help="a file or folder instead of the one that FILE names, which is looked for beside FILE and in this folder",
    )  # fmt: skip
    _add_matrices(replay)
    _add_output(replay, ("json", "csv", "tsv", "parquet", "h5ad"))


def _add_files(add: Callable[[str, str, str], argparse.ArgumentParser]) -> None:
    check = add("check", "check", "list all problems of an experiment, and what is in it")
    check.add_argument(
        "paths", nargs="+", type=path_of, metavar="PATH", help="a file or folder; several are reported one by one"
    )
    _add_matrices(check)
    check.add_argument("--json", action="store_true", help="print the report as JSON")

    convert = add("convert", "convert", "convert an experiment to .rds, .h5ad, .zarr or 10x .h5")
    convert.add_argument("source", type=path_of, metavar="A", help="a file or folder")
    convert.add_argument(
        "target", type=path_of, metavar="B", help="what to write; its name ends in .rds, .h5ad, .zarr or .h5"
    )
    convert.add_argument("--force", action="store_true", help="replace B if it exists")
    convert.add_argument(
        "--class", dest="rds_class", choices=("Seurat", "SingleCellExperiment"), default="Seurat",
        help="the class of the object in an .rds file; a name that ends in .sce.rds asks for the second",
    )  # fmt: skip
    convert.add_argument(
        "--report", type=path_of, metavar="FILE", help="also write what is printed, in full, to a JSON file"
    )
    _add_matrices(convert)
    convert.add_argument("--quiet", action="store_true", help="no progress bar")


def _add_method(command: argparse.ArgumentParser, name: str) -> None:
    command.add_argument("experiment", type=path_of, metavar="FILE", help="an experiment: a file or folder")
    add_method_arguments(command, name)
    _add_matrices(command)
    if name == "download":
        _add_output(
            command, ("h5ad", "rds", "h5", "csv"), "h5ad, of expression csv",
            "end the name in .h5ad, .zarr, .rds or .h5, of expression in .csv or .csv.gz; - is standard output",
        )  # fmt: skip
        return
    formats = ("csv", "tsv", "parquet", "json", "h5ad")
    _add_output(command, formats, "csv", "end the name in .csv, .tsv, .parquet, .json or .h5ad; - is standard output")


def _add_prepare(prepare: argparse.ArgumentParser) -> None:
    prepare.add_argument(
        "samples",
        nargs="*",
        type=path_of,
        metavar="[NAME=]SAMPLE",
        help="files or folders of raw counts; a sample each",
    )
    prepare.add_argument(
        "--out", required=True, type=path_of, metavar="FOLDER", help="what to write; 'cellworker run' opens it"
    )
    prepare.add_argument(
        "--config", type=path_of, metavar="FILE", help="parameters in YAML, as a run writes them; options win"
    )
    prepare.add_argument("--force", action="store_true", help="replace an experiment that FOLDER holds")
    quality = prepare.add_argument_group("which cells are kept")
    quality.add_argument(
        "--set", action="append", metavar="[SAMPLE:]LIMIT=NUMBER",
        help="a limit instead of the suggested one: min_counts, max_counts, min_genes, max_genes, max_mt (percent), "
        "max_doublet_score",
    )  # fmt: skip
    quality.add_argument("--mads", type=number, metavar="N", help="distance of the limits from the median, in MADs (3)")
    quality.add_argument(
        "--empty-droplets", choices=("auto", "yes", "no"), help="look for barcodes without cells (auto: in unfiltered)"
    )
    quality.add_argument("--keep-doublets", action="store_true", help="score doublets, and leave them in")
    quality.add_argument("--min-cells", type=whole_number, metavar="N", help="leave out genes of fewer cells (3)")
    together = prepare.add_argument_group("what is made of them")
    together.add_argument("--variable-genes", type=whole_number, metavar="N", help="how many are scaled (2000)")
    together.add_argument("--components", type=whole_number, metavar="N", help="principal components (50)")
    together.add_argument(
        "--dimensions", type=whole_number, metavar="N", help="of them for integration, clusters and map (30)"
    )
    together.add_argument(
        "--integration", choices=("auto", "none", "harmony", "mnn"), help="of samples (auto: where they are separate)"
    )
    together.add_argument("--separation", type=number, metavar="X", help="min separation to integrate, 0 to 1 (0.3)")
    together.add_argument("--clustering", choices=("louvain", "leiden"), help="the method (louvain)")
    together.add_argument("--resolution", type=number, metavar="X", help="how finely (0.8)")
    together.add_argument("--rds", action="store_true", help="write a Seurat object too")
    _add_matrices(prepare)
    prepare.add_argument("--quiet", action="store_true", help="no progress bar")


def _add_about_here(add: Callable[[str, str, str], argparse.ArgumentParser]) -> None:
    tasks = add("tasks", "tasks", "list the tasks, or explain one: fields, values, defaults, method, source")
    tasks.add_argument("task", nargs="?", metavar="TASK", help="the one to explain")
    tasks.add_argument("--json", action="store_true", help="print the list as JSON")

    settings = add("settings", "settings", "print every setting, its value and where the value comes from")
    settings.add_argument("--json", action="store_true", help="print the settings as JSON")

    completion = add("completion", "completion", "print what makes a shell complete commands, options and values")
    completion.add_argument("shell", choices=("bash", "zsh", "fish"), help="as: source <(cellworker completion bash)")

    stop = add("stop", "stop", "stop the worker that 'cellworker run' started on a port")
    stop.add_argument("--port", type=port, help="its port (PORT, 4000)")

    add("version", "settings", "print the version").set_defaults(version=True)


def _add_matrices(command: argparse.ArgumentParser) -> None:
    group = command.add_argument_group("what the file's matrices hold, where you know better than the values show")
    group.add_argument(
        "--counts", dest="counts_matrix", metavar="MATRIX",
        help="the raw counts: X, raw.X or a layer (AnnData), RNA/counts or the like (Seurat), none (COUNTS_MATRIX)",
    )  # fmt: skip
    group.add_argument(
        "--data", dest="data_matrix", metavar="MATRIX",
        help="the log-normalised values, named in the same way and served as they are (DATA_MATRIX)",
    )  # fmt: skip
    group.add_argument(
        "--sample", dest="sample_column", metavar="COLUMN",
        help="the column of cell metadata that names each cell's sample (SAMPLE_COLUMN)",
    )  # fmt: skip
    group.add_argument(
        "--object", dest="object_name", metavar="NAME",
        help="the object that is served, of a file that holds several, such as a workspace of R (OBJECT_NAME)",
    )  # fmt: skip
    group.add_argument(
        "--drop-genes", action="store_const", const=True,
        help="leave out genes with values that are missing or infinite (DROP_GENES)",
    )  # fmt: skip
    group.add_argument(
        "--part", dest="file_part", metavar="NAME",
        help="the modality (MuData), genome or kind of features (10x) to open (FILE_PART)",
    )  # fmt: skip
    group.add_argument(
        "--orientation", choices=("cells-by-genes", "genes-by-cells"),
        help="what the rows of a table in text are, where their names do not tell (ORIENTATION)",
    )  # fmt: skip


def _add_request(command: argparse.ArgumentParser, *, several: bool = False) -> None:
    command.add_argument(
        "task", nargs="?" if several else None, metavar="TASK", help="its name, as in 'cellworker tasks'"
    )
    command.add_argument("--body", metavar="JSON|@FILE", help=_BODY_HELP)
    command.add_argument("--pagination", metavar="JSON|@FILE", help="order, offset, limit and filters of a table")
    if several:
        command.add_argument(
            "--requests", type=path_of, metavar="FILE.jsonl",
            help="many requests on one opening: a body with its name on each line, - for standard input; a line of "
            "JSON answers each, in order",
        )  # fmt: skip

        def check_use(options: argparse.Namespace) -> None:
            alone = (options.task, options.body, options.pagination)
            if options.requests is None and options.task is None:
                command.error("name a TASK, or give --requests FILE.jsonl")
            if options.requests is not None and any(given is not None for given in (*alone, options.format)):
                command.error("--requests goes without TASK, --body, --pagination and --format")

        command.set_defaults(check_use=check_use)
    _add_output(command)


def _add_output(
    command: argparse.ArgumentParser, formats: Sequence[str] = ("json", "csv", "tsv", "parquet"), default: str = "json",
    names: str = "end the name in .json, .csv, .tsv or .parquet; .gz may follow text; - is standard output",
) -> None:  # fmt: skip
    command.add_argument("--out", type=path_of, metavar="FILE", help=f"save to FILE; {names}")
    command.add_argument("--format", choices=formats, help=f"format, where no FILE tells it ({default})")
    command.add_argument(
        "--provenance", action="store_true",
        help="what made FILE goes to FILE.provenance.json where its format has no place for it",
    )  # fmt: skip
    command.add_argument("--quiet", action="store_true", help="no progress bar")
    command.add_argument("-v", "--verbose", action="store_true", help="tell on standard error how long each step took")


if __name__ == "__main__":
    sys.exit(main())
