"""How far calibration from the scan itself comes on simulated bones of random shape; prints one line of JSON.

python benchmarks/calibration.py --what cupping --cases 24 --seed 0 --counts 10000
python benchmarks/calibration.py --what biology --cases 10 --seed 0
python benchmarks/calibration.py --what geometry --cases 4 --seed 0 --counts 10000
python benchmarks/calibration.py --what motion --cases 10 --seed 0
python benchmarks/calibration.py --what htc2022
python benchmarks/calibration.py --what scenes
python benchmarks/calibration.py --what materials --cases 12 --seed 0

Each `--what` is a module beside this one, `calibration_<what>.py`, whose docstring says what is measured.
"""

import argparse
import importlib
import json

WHATS = ("cupping", "scenes", "materials", "biology", "geometry", "motion", "htc2022")


def main() -> None:
    """Read what is asked for and its options, run it, print."""
    first = argparse.ArgumentParser(add_help=False)  # --help is answered below, with the options of what is measured
    first.add_argument("--what", choices=WHATS, default="cupping")
    chosen, rest = first.parse_known_args()
    part = importlib.import_module(f"calibration_{chosen.what}")
    parser = argparse.ArgumentParser(
        prog=f"calibration.py --what {chosen.what}",
        description=f"{__doc__}\n{chosen.what}: {part.__doc__}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    part.add_options(parser)
    options = parser.parse_args(rest)
    print(json.dumps({"what": chosen.what, "settings": vars(options), **part.run(options)}))


if __name__ == "__main__":
    main()
