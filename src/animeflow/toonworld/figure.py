"""One figure on its own transparent canvas, and where its parts are. Knows the order of its parts; knows no background."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from animeflow.toonworld import accessory, face, hair, outfit
from animeflow.toonworld.brush import Brush, Pixels
from animeflow.toonworld.curve import ellipse, polygon
from animeflow.toonworld.palette import EYES, HAIR
from animeflow.toonworld.world import Figure

TOP, WIDTH = -0.135, 1.0  # a figure with a hat reaches from TOP to 1.0 in height, and WIDTH across
_SHADOW, _GROUND = ellipse((0, 0.985), 0.19, 0.022), ellipse((0, 0.985), 0.30, 0.06)


def arms_up(pose: str) -> tuple[bool, bool]:
    """Whether the figure's (right, left) arm is up; her right is on the left of the picture."""
    return pose in ("right_arm_up", "arms_up"), pose in ("left_arm_up", "arms_up")


def paint(brush: Brush, figure: Figure) -> None:
    """Everything from the back to the front."""
    tone, raised = HAIR[figure.hair_color], arms_up(figure.pose)
    brush.shade(_GROUND, _SHADOW, (44, 26, 66), opacity=0.34, soft=0.03, hatch=False)
    hair.draw_back(brush, figure.hair_style, tone)
    for side, up in zip((-1, 1), raised, strict=True):
        if not up:
            outfit.draw_arm(brush, figure.outfit, side=side, up=False)
    outfit.draw_body(brush, figure.outfit)
    face.draw_head(brush)
    face.draw_eyes(brush, EYES[figure.eye_color], figure.expression)
    face.draw_mouth(brush, figure.expression)
    accessory.draw_behind_front_hair(brush, figure.accessory, tone)
    hair.draw_front(brush, figure.hair_style, tone)
    accessory.draw_over_hair(brush, figure.accessory)
    face.draw_over_hair(brush, figure.expression, tone)
    if figure.identity is not None:
        accessory.draw_mark(brush, figure.identity.mark, figure.identity.mark_color)
    for side, up in zip((-1, 1), raised, strict=True):
        if up:
            outfit.draw_arm(brush, figure.outfit, side=side, up=True)


def add_border(canvas: Pixels, width: float) -> None:
    """Put a white border of `width` pixels behind a premultiplied RGBA canvas, in place."""
    outside = cv2.bitwise_not(canvas[..., 3])
    distance = cv2.distanceTransform((outside > 127).astype(np.uint8), cv2.DIST_L2, 5)
    border = np.clip((width + 0.5 - distance) * 255, 0, 255).astype(np.uint8)
    white = cv2.multiply(cv2.merge([border] * 4), cv2.merge([outside] * 4), scale=1 / 255)
    cv2.add(canvas, white, dst=canvas)


def keypoints(figure: Figure) -> dict[str, NDArray[np.float32]]:
    """Part -> unit point. Left and right are the figure's own."""
    right_up, left_up = arms_up(figure.pose)
    (ex, ey), (sx, sy), (fx, fy) = face.EYE, outfit.SHOULDER, outfit.FOOT
    right_hand, left_hand = (outfit.HAND_UP if up else outfit.HAND_DOWN for up in (right_up, left_up))
    points = {
        "head": (0.0, 0.30),
        "right_eye": (-ex, ey),
        "left_eye": (ex, ey),
        "mouth": face.MOUTH,
        "neck": (0.0, 0.60),
        "right_shoulder": (-sx, sy),
        "left_shoulder": (sx, sy),
        "right_hand": (-right_hand[0], right_hand[1]),
        "left_hand": left_hand,
        "right_foot": (-fx, fy),
        "left_foot": (fx, fy),
    }
    return {name: polygon([point])[0] for name, point in points.items()}
