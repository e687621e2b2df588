"""``python -m benchmarks NAME [--quick]``."""

import argparse
import importlib

BENCHMARKS = {
    "atlas": "benchmarks.atlas",
    "cluster": "benchmarks.cluster",
    "explorer": "benchmarks.explorer",
    "files": "benchmarks.files",
    "fleet": "benchmarks.fleet",
    "growth": "benchmarks.growth",
    "gateway": "benchmarks.gateway",
    "maps": "benchmarks.maps",
    "markers": "benchmarks.markers",
    "open": "benchmarks.opening",
    "prepare": "benchmarks.preparing",
    "footprint": "benchmarks.footprint",
    "scverse": "benchmarks.scverse",
    "sizing": "benchmarks.sizing",
    "trajectories": "benchmarks.trajectories",
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("name", choices=sorted(BENCHMARKS))
    parser.add_argument("--quick", action="store_true", help="a smaller experiment; results go to <name>-quick.json")
    parser.add_argument(
        "--only",
        default="",
        help="run the cases whose name holds this text (of `ours` all, without the peers), and write nothing",
    )
    options = parser.parse_args()
    importlib.import_module(BENCHMARKS[options.name]).run(quick=options.quick, only=options.only)


if __name__ == "__main__":
    main()
