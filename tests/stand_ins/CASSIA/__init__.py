"""Stands in for the package `cassia`: the same calls and files, without its 39 packages.

It asks the endpoint once for each cluster, twice where that fails, and once for each grouping. It also does what a
careless package might: it prints its key and environment, and leaves files about. `make test-cassia` has the real one.
"""

import csv
import json
import os
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

_LEVELS = {"Merged_Grouping_1": "broader", "Merged_Grouping_2": "intermediate", "Merged_Grouping_3": "standardize"}


class BatchProgressTracker:
    def __init__(self, total, title="CASSIA Batch Analysis"):
        self.total, self.title, self.completed = total, title, 0

    def complete_task(self, name):
        self.completed += 1


def _ask(provider, model, text):
    key = os.environ["CUSTOMIZED_API_KEY"]
    print("asking with", key, dict(os.environ), flush=True)
    question = json.dumps({"model": model, "messages": [{"role": "user", "content": text}]}).encode()
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    try:
        with urlopen(Request(f"{provider}/chat/completions", question, headers), timeout=60) as answer:
            return json.load(answer)["choices"][0]["message"]["content"]
    except HTTPError as error:
        message = f"Error code: {error.code} - {error.read().decode()}"
        raise RuntimeError(message) from None
    except URLError as error:
        message = f"Connection error. {error.reason}"
        raise RuntimeError(message) from None


def _annotated(provider, model, text):
    answer = _ask(provider, model, text)
    return json.loads(answer.partition("```json\n")[2].partition("\n```")[0])


def runCASSIA_batch(  # noqa: N802
    marker, output_name, model, tissue, species, additional_info, max_workers, provider, auto_convert_ids
):
    assert auto_convert_ids is False
    assert max_workers >= 1
    genes = {}
    for row in marker.to_dict("records"):
        if row["p_val_adj"] < 0.05 and row["avg_log2FC"] > 0.25:
            genes.setdefault(row["cluster"], []).append(row["gene"])
    tracker, rows, failed = BatchProgressTracker(len(genes)), [], []
    for cluster, names in genes.items():
        try:
            text = f"{species} {tissue} {additional_info or ''}: {', '.join(names)}"
            try:
                found = _annotated(provider, model, text)
            except (RuntimeError, ValueError):
                found = _annotated(provider, model, text)
            rows.append([cluster, found["main_cell_type"], found["sub_cell_types"][0]])
        except (RuntimeError, ValueError, KeyError) as error:
            failed.append(str(error))
        tracker.complete_task(cluster)
    if failed and not rows:
        cause = "Cause: Authentication error" if "401" in failed[0] else f"Sample error: {failed[0][:200]}"
        message = f"\n{'=' * 60}\nBATCH PROCESSING FAILED - All {len(failed)} clusters failed\n{'=' * 60}\n{cause}"
        raise RuntimeError(message)
    with Path(f"{output_name}_summary.csv").open("w", newline="") as file:
        columns = ["Cluster ID", "Predicted General Cell Type", "Predicted Detailed Cell Type"]
        csv.writer(file).writerows([columns, *rows])


def merge_annotations_all(csv_path, output_path, provider, model, additional_context):
    with Path(csv_path).open(newline="") as file:
        rows = list(csv.DictReader(file))
    tracker = BatchProgressTracker(3, "Annotation Merging")
    lines = [
        f"Cluster {row['Cluster ID']}: General annotation: {row['Predicted General Cell Type']}, Subtype"
        for row in rows
    ]
    for column, detail in _LEVELS.items():
        try:
            groups = json.loads(_ask(provider, model, "\n".join([detail, *lines, additional_context])))
        except (RuntimeError, ValueError) as error:
            print(f"Warning: Merging batch failed for {detail}: {error}", flush=True)
            groups = {}
        for row in rows:
            row[column] = groups.get(row["Cluster ID"], "")
        tracker.complete_task(detail)
    with Path(output_path).open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
