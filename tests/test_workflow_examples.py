"""The examples for workflow managers: their commands do what they say, and Snakemake runs its file where it is."""

import importlib.util
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

import cellworker as cw
from cellworker.cli.main import main

EXAMPLES = Path(__file__).parent.parent / "examples"
LIMIT_S = 300
COMPARED = {"params.first": "cluster == '0'", "params.second": "cluster == '1'"}


@pytest.fixture(scope="module")
def sample(tmp_path_factory) -> Path:
    pytest.importorskip("anndata")
    path = tmp_path_factory.mktemp("workflow") / "pbmc.h5ad"
    adata = cw.read(cw.sample_path())[:, :1500].copy()
    adata.raw = None
    return cw.write(adata, path)


def rules(text: str) -> dict[str, dict[str, str]]:
    """Each rule's command, and its output."""
    found = {}
    for name, body in re.findall(r"^rule (\w+):\n((?:    .*\n|\n)*)", text, re.MULTILINE):
        command = re.search(r'    shell:\n        "(.*)"\n', body)
        output = re.search(r'    output:\n        (?:touch\()?"results/\{name\}/([\w.]+)"', body)
        if command and output:
            found[name] = {"command": command[1], "output": output[1]}
    return found


def test_the_commands_of_the_snakefile_make_what_its_rules_promise(sample, tmp_path):
    """One after the other, as Snakemake orders them; it is not needed for that."""
    found = rules((EXAMPLES / "snakemake" / "Snakefile").read_text())
    assert list(found) == ["check", "cluster", "markers", "compare"]
    clustered = str(tmp_path / "clustered.h5ad")
    for name, rule in found.items():
        output = str(tmp_path / rule["output"])
        values = {"input": clustered, "input.experiment": str(sample), "output": output, "params.resolution": "0.5"}
        values |= {"input": str(sample)} if name == "check" else {}
        values |= COMPARED
        quoted = {f"{{{key}:q}}": shlex.quote(value) for key, value in values.items()}
        quoted |= {f"{{{key}}}": value for key, value in values.items()}
        filled = rule["command"]
        for place, value in quoted.items():
            filled = filled.replace(place, value)
        program, *arguments = shlex.split(filled)
        assert program == "cellworker"
        assert main(arguments) == 0, filled
        assert name == "check" or Path(output).stat().st_size
    import pandas as pd

    assert pd.read_parquet(tmp_path / "markers.parquet")["group"].nunique() > 1
    assert len(pd.read_parquet(tmp_path / "compared.parquet")) > 100


def test_the_nextflow_pipeline_says_the_same_commands_and_connects_its_processes():
    text = (EXAMPLES / "nextflow" / "main.nf").read_text()
    processes = dict(re.findall(r"^process (\w+) \{\n(.*?)^\}", text, re.DOTALL | re.MULTILINE))
    workflow = re.search(r"^workflow \{\n(.*?)^\}", text, re.DOTALL | re.MULTILINE)
    assert workflow is not None
    assert [part.strip() for part in workflow[1].split("|")[1:]] == list(processes) == ["cluster", "markers"]
    assert text.count("{") == text.count("}")
    of_snakemake = rules((EXAMPLES / "snakemake" / "Snakefile").read_text())
    for name, body in processes.items():
        assert body.index("input:") < body.index("output:") < body.index("script:")
        (commands,) = re.findall(r'"""\n(.*?)"""', body, re.DOTALL)
        said = [line.split() for line in commands.strip().splitlines()]
        assert said[-1][:2] == of_snakemake[name]["command"].split()[:2]
        made = said[-1][said[-1].index("--out") + 1]
        assert f"path('{made}')" in body or f"path '{made}'" in body
        options = {word for line in said for word in line if word.startswith("--")}
        assert options <= {word for rule in of_snakemake.values() for word in rule["command"].split()}


@pytest.mark.skipif(importlib.util.find_spec("snakemake") is None, reason="needs Snakemake: pip install snakemake")
def test_snakemake_runs_its_example(sample, tmp_path):
    config = {"experiments": {"pbmc": str(sample)}, "compare": list(COMPARED.values())}
    (tmp_path / "config.json").write_text(json.dumps(config))
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    environment["XDG_CACHE_HOME"] = str(tmp_path / "cache")
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(EXAMPLES / "snakemake" / "Snakefile")]
    command += ["--configfile", "config.json", "--cores", "1", "--directory", str(tmp_path)]
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=LIMIT_S, check=False
    )
    assert done.returncode == 0, done.stderr
    made = {path.name for path in (tmp_path / "results" / "pbmc").iterdir()}
    assert made == {"checked", "clustered.h5ad", "markers.parquet", "compared.parquet"}
