"""Draws a clip as cartoons are made: line art, one drawing held for two frames, a background that stands still.

Everything is a function of the drawing's number, so that the clip is the same on every machine. Shapes are signed
distances with an ink line of two pixels and flat paint inside. Left to others: encoding it as a DVD would be.
"""

import numpy as np

INK = np.array([24, 20, 28], np.float32)


def frames(width, height, count):
    """Yields `count` frames as uint8 RGB arrays of shape (height, width, 3)."""
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    background = draw_background(x / width, y / height, width)
    for drawing in range((count + 1) // 2):
        picture = draw_figure(background.copy(), x, y, width, height, drawing)
        picture = np.clip(picture + 0.5, 0, 255).astype(np.uint8)
        for _ in range(min(2, count - 2 * drawing)):
            yield picture


def paint(picture, distance, colour, line_px=2.0):
    """Fills where `distance` (pixels) is negative and inks the edge."""
    inside = np.clip(0.5 - distance, 0, 1)[..., None]
    edge = np.clip(line_px / 2 + 0.5 - np.abs(distance), 0, 1)[..., None]
    picture[:] = picture * (1 - inside) + np.asarray(colour, np.float32) * inside
    picture[:] = picture * (1 - edge) + INK * edge


def draw_background(u, v, width):
    """Sky, hills, a house, a fence and grass: enough edges to be worth upscaling."""
    picture = np.stack([120 + 90 * v, 180 + 50 * v, 235 + 10 * v], -1).astype(np.float32)
    paint(picture, width * (np.hypot(u - 0.82, (v - 0.18) * 0.8) - 0.07), (250, 226, 120))
    for level, height, colour in [(0.45, 0.06, (118, 168, 112)), (0.58, 0.04, (92, 148, 84))]:
        hill = level + height * np.sin(6 * u + 9 * level) + 0.5 * height * np.sin(17 * u)
        paint(picture, width * 0.8 * (hill - v), colour)
    box = lambda cx, cy, w, h: width * np.maximum(np.abs(u - cx) - w, (np.abs(v - cy) - h) * 0.8)
    paint(picture, box(0.2, 0.52, 0.1, 0.11), (214, 196, 160))
    roof = width * 0.6 * np.maximum(0.3 - v + 0.8 * np.abs(u - 0.2), v - 0.41)
    paint(picture, roof, (170, 82, 66))
    for cx in (0.15, 0.25):
        paint(picture, box(cx, 0.5, 0.018, 0.03), (150, 190, 210))
    for post in np.arange(0.38, 1.0, 0.045):
        paint(picture, box(post, 0.66, 0.008, 0.06), (230, 224, 208))
    # Painted on paper: grain that stands still, for the encoder to chew on.
    grain = np.random.default_rng(7).normal(0, 4, u.shape).astype(np.float32)
    return picture + grain[..., None]


def draw_figure(picture, x, y, width, height, drawing):
    """Somebody who walks, waves and blinks."""
    scale = height / 576
    cx, ground = width * (0.42 + 0.006 * drawing), height * 0.92
    swing = np.sin(drawing * 0.9)

    def limb(ax, ay, bx, by, thickness, colour):
        ax, ay, bx, by = cx + ax * scale, ground + ay * scale, cx + bx * scale, ground + by * scale
        along = ((x - ax) * (bx - ax) + (y - ay) * (by - ay)) / max((bx - ax) ** 2 + (by - ay) ** 2, 1)
        along = np.clip(along, 0, 1)
        distance = np.hypot(x - ax - along * (bx - ax), y - ay - along * (by - ay))
        paint(picture, distance - thickness * scale, colour)

    def ball(bx, by, rx, ry, colour):
        dx, dy = (x - cx - bx * scale) / rx, (y - ground - by * scale) / ry
        paint(picture, (np.hypot(dx, dy) - scale) * min(rx, ry), colour)

    limb(0, -90, 26 * swing, -6, 9, (60, 70, 120))
    limb(0, -90, -26 * swing, -6, 9, (60, 70, 120))
    ball(0, -128, 34, 48, (198, 60, 58))
    limb(-20, -156, -48 + 12 * swing, -116, 8, (240, 200, 168))
    limb(20, -156, 58, -196 - 22 * np.cos(drawing * 1.1), 8, (240, 200, 168))
    ball(0, -206, 32, 36, (240, 200, 168))
    ball(0, -232, 34, 16, (86, 56, 36))
    for side in (-12, 12):
        ball(side, -206, 7, 2 if drawing % 11 == 0 else 9, (250, 250, 250))
        ball(side + 2 * swing, -205, 3, 1 if drawing % 11 == 0 else 4, (20, 20, 24))
    limb(-10, -186, 10, -186 + 2 * swing, 1.5, (120, 40, 40))
    return picture
