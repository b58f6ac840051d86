"""Numbers of the paper's Tables 1 to 3 (RAD, CVPR 2025), to stand beside ours.

1000 held-out images of 256x256. FID is against statistics of the data set that are not
published; LPIPS is AlexNet's, of images in [0, 1] ("unscaled").
"""

from typing import NamedTuple

NUM_IMAGES, SIZE = 1000, 256
SCORES = ("fid", "lpips_alex_unscaled")


class Row(NamedTuple):
    """FID and LPIPS under each kind of masks."""

    box: tuple[float, float]
    extreme: tuple[float, float]
    wide: tuple[float, float]


TABLES = {
    "ffhq256": {
        "LaMa": Row((27.7, 0.086), (61.7, 0.492), (23.2, 0.096)),
        "Score-SDE": Row((30.3, 0.135), (48.6, 0.488), (29.8, 0.132)),
        "DDRM": Row((28.4, 0.109), (48.1, 0.532), (27.5, 0.113)),
        "RePaint": Row((25.7, 0.093), (35.9, 0.398), (24.2, 0.108)),
        "MCG": Row((23.7, 0.089), (30.6, 0.366), (22.1, 0.099)),
        "DDNM": Row((30.4, 0.089), (87.7, 0.353), (30.4, 0.089)),
        "DeqIR": Row((24.2, 0.093), (64.2, 0.368), (27.4, 0.099)),
        "RAD": Row((22.1, 0.074), (33.4, 0.317), (21.5, 0.078)),
        "RAD, Cfg. 1": Row((128.3, 0.279), (172.0, 0.441), (95.7, 0.240)),
        "RAD, Cfg. 2": Row((23.5, 0.086), (37.0, 0.333), (26.8, 0.085)),
    },
    "lsun_bedroom256": {
        "Score-SDE": Row((23.7, 0.648), (24.1, 0.648), (23.2, 0.644)),
        "DDRM": Row((20.5, 0.166), (33.1, 0.450), (26.4, 0.190)),
        "RePaint": Row((20.5, 0.176), (23.5, 0.461), (21.4, 0.161)),
        "MCG": Row((19.9, 0.131), (22.0, 0.395), (20.9, 0.108)),
        "DDNM": Row((22.7, 0.150), (53.3, 0.431), (23.2, 0.126)),
        "DeqIR": Row((22.2, 0.176), (43.9, 0.461), (22.0, 0.153)),
        "RAD": Row((19.2, 0.131), (21.6, 0.399), (20.8, 0.107)),
    },
}

SECONDS = {
    "Score-SDE": 41.983,
    "DDRM": 12.291,
    "RePaint": 837.136,
    "MCG": 128.058,
    "DDNM": 6.566,
    "DeqIR": 26.443,
    "RAD": 8.442,
}
"""Table 2: of an image of 256x256 on one NVIDIA TITAN RTX; RAD's of 100 steps.
RePaint's are 20 times Score-SDE's, so not of its official schedule."""
