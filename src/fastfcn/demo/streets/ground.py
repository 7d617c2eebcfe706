"""The ground of a drawn street: road, pavements, verges, lawns, a crossing street, and paint."""

from fastfcn.demo.streets.canvas import GRASS, NEAR, PAVEMENT, ROAD, Canvas
from fastfcn.demo.streets.light import Color, scaled
from fastfcn.demo.streets.scene import CROSSING, FAR, LANE, VERGE, Street

ASPHALT, STONE, CURB, LAWN, PAINT = (
    (98, 99, 104),
    (172, 164, 154),
    (200, 196, 188),
    (104, 150, 62),
    (226, 226, 220),
)
ENDLESS = 9 * FAR


def draw_ground(canvas: Canvas, street: Street) -> None:
    """Draw the ground up to the horizon."""
    edge, walk = street.road, street.road + street.pavement
    for side, lawn in zip((-1, 1), street.lawns, strict=True):
        _strip(canvas, side * walk, side * ENDLESS, LAWN if lawn else STONE, GRASS if lawn else PAVEMENT)
        _strip(canvas, side * edge, side * walk, STONE, PAVEMENT)
        if lawn:
            _strip(canvas, side * edge, side * (edge + VERGE), LAWN, GRASS)
        _strip(canvas, side * edge, side * (edge + 0.3), CURB, PAVEMENT)
    _strip(canvas, -edge, edge, ASPHALT, ROAD)
    if street.crossing < FAR:
        _patch(canvas, -ENDLESS, ENDLESS, street.crossing, street.crossing + CROSSING, ASPHALT, ROAD)
        _zebra(canvas, street)
    _slabs(canvas, street)
    _repairs(canvas, street)
    _lines(canvas, street)


def _strip(canvas: Canvas, left: float, right: float, color: Color, kind: int) -> None:
    """Fill the ground between two lines along the street, round its bend, to the horizon."""
    depths = [NEAR * (4 * FAR / NEAR) ** (step / 12) for step in range(13)]
    canvas.ground([(left, z) for z in depths] + [(right, z) for z in reversed(depths)], color, kind)


def _patch(canvas: Canvas, left: float, right: float, near: float, far: float, color: Color, kind: int) -> None:
    canvas.ground([(left, near), (left, far), (right, far), (right, near)], color, kind)


def _slabs(canvas: Canvas, street: Street) -> None:
    """Draw the joints between the slabs of the pavements."""
    for joint in range(14):
        z = 3 + 1.8 * joint
        if street.is_crossed(z, z):
            continue
        for side in (-1, 1):
            first = street.road + (VERGE if street.lawns[side > 0] else 0.3)
            last = street.road + street.pavement
            _patch(canvas, side * first, side * last, z, z + 0.07, scaled(STONE, 0.86), PAVEMENT)


def _repairs(canvas: Canvas, street: Street) -> None:
    """Draw patches of newer or older asphalt."""
    for _ in range(3):
        x, z = canvas.uniform(-street.road, street.road - 2), canvas.uniform(4, 25)
        color = scaled(ASPHALT, canvas.uniform(0.85, 1.08))
        _patch(canvas, x, x + 1.6, z, z + canvas.uniform(1.5, 5), color, ROAD)


def _lines(canvas: Canvas, street: Street) -> None:
    """Draw dashed lines between the lanes, and whole ones where cars park beside them."""
    last = LANE * street.lanes
    stop = street.crossing - 5 if street.crossing < FAR else FAR
    lines = [(LANE * lane, 3.0) for lane in range(1 - street.lanes, street.lanes)]
    if street.road - last > 1:
        lines += [(-last, 0.0), (last, 0.0)]
    for x, gap in lines:
        z, dash = canvas.uniform(1.5, 4), 3.0 if gap else 9.0
        while z < FAR:
            if z + dash < stop or z > street.crossing + CROSSING + 1:
                _patch(canvas, x - 0.08, x + 0.08, z, z + dash, PAINT, ROAD)
            z += dash + gap


def _zebra(canvas: Canvas, street: Street) -> None:
    x = 0.4 - street.road
    while x < street.road - 0.6:
        _patch(canvas, x, x + 0.5, street.crossing - 4, street.crossing - 1, PAINT, ROAD)
        x += 1.0
