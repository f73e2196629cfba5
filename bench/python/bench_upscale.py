"""Upscaling side by side: Remaster, a PyTorch loop with pipes, ncnn. Same clip, same weights, one after the other.

The clip is line art on twos with a still background, through MPEG-2 at up to 4.8 Mb/s. Prints frames a second end to end
(decode, network, FFV1; for Remaster with loading, hashing and indexing, for the peers without), the share of pixels that
the network was shown with reuse, and how far reuse moves the picture. Peers come from the package index into a venv under the user's cache; everything else is local.

The part `memory` is Remaster's alone: the peak of a worker.

    python3 bench/python/bench_upscale.py [--part memory|peers] [--frames N] [--width W --height H] [--model FILE.param]
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import peers

HERE = Path(__file__).resolve().parent
PEERS = ["torch==2.9.0", "numpy", "ncnn==1.0.20261020"]
MODEL = "REALESRGAN_ANIMAVIDEOV3_UP4X.param"


def prepare():
    """Goes on where the peers are, with the folder of the weights."""
    peers.go_on_inside(PEERS, ".ready", __file__)
    return peers.weights([MODEL.removesuffix(".param")])


def make_clip(file, width, height, frames):
    """The clip as a DVD would have it."""
    import line_art

    raw = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}", "-r", "24", "-i", "-"]
    rate = ["-b:v", "4800k", "-maxrate", "7000k", "-bufsize", "1835k", "-g", "12", "-bf", "2"]
    encode = ["ffmpeg", "-v", "error", *raw, "-c:v", "mpeg2video", *rate, "-pix_fmt", "yuv420p", "-y", file]
    encoder = subprocess.Popen(encode, stdin=subprocess.PIPE)
    for frame in line_art.frames(width, height, frames):
        encoder.stdin.write(frame.tobytes())
    encoder.stdin.close()
    if encoder.wait():
        raise SystemExit("ffmpeg failed")


def ours(worker, clip, out, model, reuse, threads):
    """Seconds of one run, and the share of pixels that its last lines tell."""
    options = ["--model", model, "--reuse", reuse, "--threads", str(threads), "--encoder", "ffv1"]
    started = time.monotonic()
    done = subprocess.run([worker, "upscale", clip, out, *options], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr)
    share = re.search(r"shown ([\d.]+) %", done.stderr)
    return time.monotonic() - started, float(share[1]) / 100 if share else 1.0


def peer(engine, clip, out, model, threads):
    """Seconds of a peer's loop, without loading its library and weights."""
    command = [sys.executable, HERE / "upscale_peer.py", engine, clip, out]
    done = subprocess.run([*command, "--model", model, "--threads", str(threads)], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])["seconds"]


def difference(one, other):
    """Mean and greatest difference of luma between two files, in levels of 255."""
    import numpy as np

    def luma(file):
        command = ["ffmpeg", "-v", "error", "-i", file, "-vf", "extractplanes=y", "-f", "rawvideo", "-"]
        return np.frombuffer(subprocess.check_output(command), np.uint16).astype(np.int32)

    apart = np.abs(luma(one) - luma(other)) / 4
    return apart.mean(), apart.max()


def beside_others(bench):
    """Frames a second beside others, what reuse saves, and how far it moves the picture."""
    clip, model, threads = bench.clip("clip.mkv"), bench.model, os.cpu_count()
    rows = [("Remaster, reuse off", ours(bench.worker, clip, bench.file("off.mkv"), model, "off", threads))]
    rows.append(("Remaster, reuse auto", ours(bench.worker, clip, bench.file("auto.mkv"), model, "auto", threads)))
    rows.append(("PyTorch loop with pipes", (peer("torch", clip, bench.file("torch.mkv"), model, threads), 1.0)))
    rows.append(("ncnn", (peer("ncnn", clip, bench.file("ncnn.mkv"), model, threads), 1.0)))
    for name, (seconds, share) in rows:
        rate = bench.frames / seconds
        print(f"{name}: {rate:.3f} frames/s end to end, {100 * share:.1f} % of the pixels inferred", flush=True)
    mean, greatest = difference(bench.file("off.mkv"), bench.file("auto.mkv"))
    print(f"reuse against none, luma: mean {mean:.3f}, greatest {greatest:.1f} of 255")


def memory(bench):
    """Peak resident memory of a worker that makes the clip's frames whole."""
    out = bench.file("memory.mkv")
    started = subprocess.Popen(bench.command(bench.clip("memory-clip.mkv", 4), out, "--reuse", "off"), stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(started.pid, 0)
    if status:
        raise SystemExit("the worker failed")
    print(f"peak memory of a worker: {usage.ru_maxrss / 2**20:.2f} GiB", flush=True)


PARTS = {"memory": memory, "peers": beside_others}


class Bench:
    """What all parts share: the worker, the weights, a folder, the size of the frames."""

    def __init__(self, arguments, model, folder):
        target = Path(os.environ.get("CARGO_TARGET_DIR") or HERE.parent.parent / "target")
        self.worker = arguments.worker or target / "debug/remaster-worker"
        self.model, self.folder, self.frames = model, Path(folder), arguments.frames
        self.width, self.height = arguments.width, arguments.height

    def file(self, name):
        """A path in the folder, which goes with the bench."""
        return str(self.folder / name)

    def clip(self, name, frames=None, width=None, height=None):
        """A new clip; of the sizes that were asked for where nothing is said."""
        make_clip(self.file(name), width or self.width, height or self.height, frames or self.frames)
        return self.file(name)

    def command(self, clip, out, *options):
        """A run of the worker, lossless, so that the encoder costs little."""
        return [self.worker, "upscale", clip, out, "--model", self.model, "--encoder", "ffv1", *options]


def main():
    """Runs the parts and prints one line a figure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--part", choices=PARTS, action="append", help="only this one; may be given several times")
    parser.add_argument("--frames", type=int, default=24)
    parser.add_argument("--width", type=int, default=720)
    parser.add_argument("--height", type=int, default=576)
    parser.add_argument("--model", help="an ncnn .param with its .bin beside it; animevideov3 where left out")
    parser.add_argument("--worker", help="the remaster-worker to run; that of the last build where left out")
    arguments = parser.parse_args()
    weights = prepare()
    model = arguments.model or weights / MODEL
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(arguments, model, folder)
        size = f"{bench.frames} frames of {bench.width}x{bench.height}"
        print(f"{Path(model).stem}, {size}, {os.cpu_count()} threads", flush=True)
        for part in arguments.part or PARTS:
            PARTS[part](bench)


if __name__ == "__main__":
    main()
