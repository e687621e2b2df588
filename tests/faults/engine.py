"""`cellworker engine` with the tasks of `slowed`: ``python engine.py``, settings in the environment."""

import asyncio
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from cellworker.engine.serve import serve
from cellworker.engine.workers import zygote_client
from cellworker.gateway.platform.labels import PodLabels, assigned_folder
from cellworker.logs import configure
from cellworker.settings import Settings

if __name__ == "__main__":
    os.environ["ENGINE_PID"] = str(os.getpid())
    zygote_client._LOOK_EVERY_S = float(os.environ.get("LOOK_EVERY_S", "5"))
    settings = Settings.from_environment()
    configure(settings.log_level)
    place = assigned_folder(PodLabels(settings, development_default=False), settings.data_dir)
    sys.exit(asyncio.run(serve(place, settings, tasks="slowed:BY_PATH", grace_s=2.0)))
