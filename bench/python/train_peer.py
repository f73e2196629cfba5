"""The PyTorch side of `make bench-trainer`: the same networks, losses and optimiser, written from the papers.

Answers one line of JSON for every line on stdin: {"step": n} makes a step on batch n and gives its losses and seconds;
{"discriminator": steps, "lr": rate} trains the discriminator alone and gives its summed loss after every step.
Weights and batches come from the safetensors file named on the command line, settings from its second argument.
"""

import json
import resource
import sys
import time

import torch
import torch.nn.functional as F
from safetensors.torch import load_file


def leaky(x):
    return F.leaky_relu(x, 0.2)


class Generator:
    """RRDBNet at 2x with one upsampler."""

    def __init__(self, weights, blocks):
        self.w, self.blocks = weights, blocks

    def conv(self, name, x):
        return F.conv2d(x, self.w[f"{name}.weight"], self.w[f"{name}.bias"], padding=1)

    def dense(self, name, x):
        features = [x]
        for k in range(1, 5):
            features.append(leaky(self.conv(f"{name}.conv{k}", torch.cat(features, 1))))
        return self.conv(f"{name}.conv5", torch.cat(features, 1)) * 0.2 + x

    def __call__(self, x):
        first = self.conv("conv_first", x)
        body = first
        for block in range(self.blocks):
            inner = body
            for k in range(1, 4):
                inner = self.dense(f"body.{block}.rdb{k}", inner)
            body = inner * 0.2 + body
        x = first + self.conv("conv_body", body)
        x = leaky(self.conv("conv_up1", F.interpolate(x, scale_factor=2, mode="nearest")))
        return self.conv("conv_last", leaky(self.conv("conv_hr", x)))


class Discriminator:
    """U-Net with spectral normalisation; one power iteration a step."""

    def __init__(self, weights):
        self.w = weights

    def refresh(self):
        with torch.no_grad():
            for k in range(1, 9):
                matrix = self.w[f"conv{k}.weight_orig"].flatten(1)
                v = F.normalize(matrix.t() @ self.w[f"conv{k}.weight_u"], dim=0)
                self.w[f"conv{k}.weight_u"] = F.normalize(matrix @ v, dim=0)
                self.w[f"conv{k}.weight_v"] = v

    def conv(self, k, x, stride=1):
        weight = self.w[f"conv{k}.weight_orig"]
        largest = self.w[f"conv{k}.weight_u"] @ (weight.flatten(1) @ self.w[f"conv{k}.weight_v"])
        return leaky(F.conv2d(x, weight / largest, stride=stride, padding=1))

    def __call__(self, x):
        def double(x):
            return F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)

        x0 = leaky(F.conv2d(x, self.w["conv0.weight"], self.w["conv0.bias"], padding=1))
        x1 = self.conv(1, x0, 2)
        x2 = self.conv(2, x1, 2)
        x3 = self.conv(3, x2, 2)
        x4 = self.conv(4, double(x3)) + x2
        x5 = self.conv(5, double(x4)) + x1
        x6 = self.conv(6, double(x5)) + x0
        x = self.conv(8, self.conv(7, x6))
        return F.conv2d(x, self.w["conv9.weight"], self.w["conv9.bias"], padding=1)


def vgg(weights, x):
    """conv5_4 before its ReLU."""
    mean = torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1)
    x = (x - mean) / torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1)
    for number in [0, 2, 5, 7, 10, 12, 14, 16, 19, 21, 23, 25, 28, 30, 32, 34]:
        if number > 0:
            x = F.relu(x)
        if number in (5, 10, 19, 28):
            x = F.max_pool2d(x, 2)
        x = F.conv2d(x, weights[f"features.{number}.weight"], weights[f"features.{number}.bias"], padding=1)
    return x


def towards(logits, value):
    return F.binary_cross_entropy_with_logits(logits, torch.full_like(logits, value))


class Peer:
    def __init__(self, tensors, settings):
        def part(prefix):
            return {k[len(prefix):]: v.clone() for k, v in tensors.items() if k.startswith(prefix)}

        self.settings, self.batches, self.vgg = settings, part("batch/"), part("vgg/")
        self.g, self.d = part("generator/"), part("discriminator/")
        self.generator = Generator(self.g, settings["num_block"])
        self.discriminator = Discriminator(self.d)
        learnt = [k for k in self.d if not k.endswith(("weight_u", "weight_v"))]
        for tensor in list(self.g.values()) + [self.d[k] for k in learnt]:
            tensor.requires_grad_(True)
        rate = settings["lr"]
        self.optim_g = torch.optim.Adam(self.g.values(), lr=rate, betas=(0.9, 0.99))
        self.ema, self.steps = {k: v.detach().clone() for k, v in self.g.items()}, 0
        self.optim_d = torch.optim.Adam([self.d[k] for k in learnt], lr=rate, betas=(0.9, 0.99)) if learnt else None

    def step(self, number):
        lr, hr = self.batches[f"{number}/lr"], self.batches[f"{number}/hr"]
        fake = self.generator(lr)
        pixel = F.l1_loss(fake, hr) * self.settings["pixel_weight"]
        losses, total = {"l_g_pix": pixel.item()}, pixel
        if self.d:
            self.discriminator.refresh()
            real_logits = self.discriminator(hr)
            percep = F.l1_loss(vgg(self.vgg, fake), vgg(self.vgg, hr).detach())
            for_d, real = self.discriminator(fake), real_logits.detach()
            gan = (towards(real - for_d.mean(), 0.0) + towards(for_d - real.mean(), 1.0)) / 2 * 5e-3
            losses |= {"l_g_percep": percep.item(), "l_g_gan": gan.item()}
            total = pixel + percep + gan
        self.optim_g.zero_grad()
        total.backward()
        self.optim_g.step()
        self.follow()
        if self.d:
            losses |= self.teach(hr, fake.detach())
        return losses

    def follow(self):
        """The moving average, which every one of these trainers keeps."""
        decay = min(self.settings["ema_decay"], (1 + self.steps) / (10 + self.steps))
        self.steps += 1
        with torch.no_grad():
            for key, average in self.ema.items():
                average.mul_(decay).add_(self.g[key], alpha=1 - decay)

    def teach(self, hr, fake):
        self.optim_d.zero_grad()
        real, for_d = self.discriminator(hr), self.discriminator(fake)
        of_real = towards(real - for_d.detach().mean(), 1.0) / 2
        of_fake = towards(for_d - real.detach().mean(), 0.0) / 2
        (of_real + of_fake).backward()
        self.optim_d.step()
        return {"l_d_real": of_real.item(), "l_d_fake": of_fake.item()}

    def teach_alone(self, steps):
        sums = []
        for number in range(steps):
            at = number % self.settings["batches"]
            hr = self.batches[f"{at}/hr"]
            with torch.no_grad():
                fake = self.generator(self.batches[f"{at}/lr"])
            self.discriminator.refresh()
            sums.append(sum(self.teach(hr, fake).values()))
        return sums


def main():
    settings = json.loads(sys.argv[2])
    torch.set_num_threads(settings["threads"])
    peer = Peer(load_file(sys.argv[1]), settings)
    for line in sys.stdin:
        wish = json.loads(line)
        start, cpu_start = time.perf_counter(), time.process_time()
        answer = {}
        if "step" in wish:
            answer["losses"] = peer.step(wish["step"])
        if "discriminator" in wish:
            answer["sums"] = peer.teach_alone(wish["discriminator"])
        answer["seconds"] = time.perf_counter() - start
        answer["cpu_seconds"] = time.process_time() - cpu_start
        answer["peak_mib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
