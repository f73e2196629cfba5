"""What others would run: a PyTorch loop with pipes, frame after frame, as Real-ESRGAN's video script does it, and ncnn.

Both read the same ncnn files (.param and .bin) that Remaster reads. The last line on stdout is JSON with the frames made and
the seconds from the first byte in to the last byte out; loading the library and the weights does not count.

    upscale_peer.py torch|ncnn IN OUT --model FILE.param --threads N [--encoder ffv1|x264] [--preset PRESET]
"""

import argparse
import json
import re
import struct
import subprocess
import time

import numpy as np


def read_bin(file):
    """Weights in file order: ("conv", weight, bias) with fp16 weights widened, and ("prelu", slopes)."""
    data, offset, layers = open(file.removesuffix(".param") + ".bin", "rb").read(), 0, []
    for line in open(file).read().splitlines()[2:]:
        kind, options = line.split()[0], dict(re.findall(r"(-?\d+)=([\d.]+)", line))
        if kind == "Convolution":
            (tag,) = struct.unpack_from("<I", data, offset)
            assert tag == 0x01306B47, "weights are not fp16"
            count, out = int(options["6"]), int(options["0"])
            weight = np.frombuffer(data, np.float16, count, offset + 4).astype(np.float32)
            offset += 4 + (2 * count + 3) // 4 * 4
            bias = np.frombuffer(data, np.float32, out, offset).copy()
            offset += 4 * out
            layers.append(("conv", weight.reshape(out, -1, 3, 3), bias))
        elif kind == "PReLU":
            count = int(options["0"])
            layers.append(("prelu", np.frombuffer(data, np.float32, count, offset).copy()))
            offset += 4 * count
    assert offset == len(data), "the .bin does not fit the .param"
    return layers


def torch_model(file, threads):
    """The network as BasicSR builds it: Compact where there are PReLUs, RRDBNet otherwise; 4x."""
    import torch
    from torch.nn import functional as f

    torch.set_num_threads(threads)
    layers = read_bin(file)
    weights = [[torch.from_numpy(value) for value in layer[1:]] for layer in layers]
    conv = lambda x, at: f.conv2d(x, weights[at][0], weights[at][1], padding=1)

    def compact(x):
        features = x
        for at, layer in enumerate(layers):
            features = conv(features, at) if layer[0] == "conv" else f.prelu(features, weights[at][0])
        return f.pixel_shuffle(features, 4) + f.interpolate(x, scale_factor=4, mode="nearest")

    def rrdbnet(x):
        leaky = lambda value: f.leaky_relu(value, 0.2)
        first = features = conv(x, 0)
        blocks = (len(layers) - 6) // 15
        for block in range(blocks):
            start = features
            for dense in range(3):
                known, at = [features], 1 + 15 * block + 5 * dense
                for step in range(4):
                    known.append(leaky(conv(torch.cat(known, 1), at + step)))
                features = conv(torch.cat(known, 1), at + 4) * 0.2 + features
            features = features * 0.2 + start
        at = 1 + 15 * blocks
        features = first + conv(features, at)
        for step in (1, 2):
            features = leaky(conv(f.interpolate(features, scale_factor=2, mode="nearest"), at + step))
        return conv(leaky(conv(features, at + 3)), at + 4)

    network = compact if any(layer[0] == "prelu" for layer in layers) else rrdbnet

    def run(frame):
        with torch.inference_mode():
            x = torch.from_numpy(frame.transpose(2, 0, 1).astype(np.float32) / 255.0)[None]
            made = network(x)[0].clamp_(0, 1).numpy()
        return np.ascontiguousarray((made * 255.0).round().astype(np.uint8).transpose(1, 2, 0))

    return run


def ncnn_model(file, threads):
    """ncnn on the CPU, as its own examples run it."""
    import ncnn

    net = ncnn.Net()
    net.opt.num_threads = threads
    net.load_param(file)
    net.load_model(file.removesuffix(".param") + ".bin")
    names = [line.split() for line in open(file).read().splitlines()[2:]]
    source, sink = names[0][4], names[-1][4 + int(names[-1][2])]

    def run(frame):
        x = np.ascontiguousarray(frame.transpose(2, 0, 1).astype(np.float32) / 255.0)
        extractor = net.create_extractor()
        extractor.input(source, ncnn.Mat(x))
        made = np.array(extractor.extract(sink)[1])
        return np.ascontiguousarray((made.clip(0, 1) * 255.0).round().astype(np.uint8).transpose(1, 2, 0))

    return run


def main():
    """Decodes, upscales and encodes one frame after the other."""
    parser = argparse.ArgumentParser()
    parser.add_argument("engine", choices=["torch", "ncnn"])
    parser.add_argument("input")
    parser.add_argument("output")
    parser.add_argument("--model", required=True)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--encoder", choices=["ffv1", "x264"], default="ffv1")
    parser.add_argument("--preset", default="medium", help="of x264")
    arguments = parser.parse_args()
    shape = ["ffprobe", "-v", "error", "-select_streams", "v:0", "-show_entries", "stream=width,height", "-of", "csv=p=0"]
    width, height = map(int, subprocess.check_output([*shape, arguments.input], text=True).strip().split(",")[:2])
    run = {"torch": torch_model, "ncnn": ncnn_model}[arguments.engine](arguments.model, arguments.threads)
    started = time.monotonic()
    raw = ["-f", "rawvideo", "-pix_fmt", "bgr24"]
    decode = ["ffmpeg", "-v", "error", "-i", arguments.input, *raw, "-"]
    encode = ["ffmpeg", "-v", "error", *raw, "-s", f"{4 * width}x{4 * height}", "-r", "24", "-i", "-", "-y"]
    codec = {"ffv1": ["ffv1"], "x264": ["libx264", "-preset", arguments.preset]}[arguments.encoder]
    encode += ["-c:v", *codec, "-pix_fmt", "yuv420p", arguments.output]
    decoder = subprocess.Popen(decode, stdout=subprocess.PIPE)
    encoder = subprocess.Popen(encode, stdin=subprocess.PIPE)
    count = 0
    while len(data := decoder.stdout.read(3 * width * height)) == 3 * width * height:
        frame = np.frombuffer(data, np.uint8).reshape(height, width, 3)[..., ::-1]
        encoder.stdin.write(run(frame)[..., ::-1].tobytes())
        count += 1
    encoder.stdin.close()
    if decoder.wait() or encoder.wait():
        raise SystemExit("ffmpeg failed")
    print(json.dumps({"frames": count, "seconds": time.monotonic() - started}))


if __name__ == "__main__":
    main()
