"""The data sets of real images that have a name here, and what is known of them."""

import dataclasses
import re
import sys
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from rad_jax.data.sources import Images, open_images
from rad_jax.errors import UserError

_WORDNET_ID = re.compile(r"n\d{8}")
_IMAGENET_TAR = "ILSVRC2012_img_train.tar"


@dataclasses.dataclass(frozen=True)
class ImageSet:
    """What makes a data set of images.

    Attributes:
        wants: what ``--source`` is.
        homepage: where the images are published.
        num_images: how many there are.
        num_train: how many are trained on at most; None for all.
        num_classes: how many there are, named by the folders that the images lie in;
            0 for none.
    """

    wants: str
    homepage: str = ""
    num_images: int | None = None
    num_train: int | None = None
    num_classes: int = 0


IMAGE_SETS = {
    "ffhq256": ImageSet(
        wants="the folder images1024x1024, or a zip or tar of it",
        homepage="https://github.com/NVlabs/ffhq-dataset",
        num_images=70_000,
    ),
    "lsun_bedroom256": ImageSet(
        wants="the folder bedroom_train_lmdb",
        homepage="https://www.yf.io/p/lsun",
        num_images=3_033_042,
        num_train=288_000,  # RAD Sec. 4.1; which ones, the paper does not say
    ),
    "imagenet256": ImageSet(
        wants=f"{_IMAGENET_TAR}, the folder that holds it, or folders by class",
        homepage="https://image-net.org",
        num_images=1_281_167,
        num_classes=1000,
    ),
    "celeba_hq256": ImageSet(
        wants="a folder, zip or tar of the images",
        homepage="https://github.com/tkarras/progressive_growing_of_gans",
        num_images=30_000,
    ),
}


def find_images(name: str, source: Path) -> Images:
    """The images of a data set, and a warning if they are not as many as they should.

    Raises:
        UserError: there are none.
    """
    about = IMAGE_SETS.get(name)
    if about is None:
        return open_images(source)
    if not about.num_classes:
        images = open_images(source)
    else:
        images = _imagenet(source)
        classes = len(set(map(class_of, images.names)))
        _warn_unless_equal(name, source, classes, about.num_classes, "classes")
    _warn_unless_equal(name, source, len(images.names), about.num_images, "images")
    return images


def class_of(name: str) -> str:
    """The folder that an image lies in; empty if it is in none."""
    return PurePosixPath(name).parent.name


def class_names(images: Images, source: Path) -> Sequence[str]:
    """The classes of images, sorted; the number of a class is its place here.

    Raises:
        UserError: an image lies in no folder.
    """
    classes = sorted({class_of(name) for name in images.names})
    if "" in classes:
        stray = next(name for name in images.names if not class_of(name))
        raise UserError(
            f"{source}: {stray!r} lies in no folder that could name its class; put it "
            "into one, or leave out --labels"
        )
    return classes


def _imagenet(source: Path) -> Images:
    """Its training images; those of its other parts lie in no class's folder."""
    if (source / _IMAGENET_TAR).is_file():
        source /= _IMAGENET_TAR
    images = open_images(source)
    ids = [
        i
        for i, name in enumerate(images.names)
        if _WORDNET_ID.fullmatch(class_of(name))
    ]
    if not ids:
        raise UserError(
            f"{source}: holds no folder of a class, such as n01440764; "
            f"give {IMAGE_SETS['imagenet256'].wants}"
        )
    return images.take(ids)


def _warn_unless_equal(
    name: str, source: Path, found: int, known: int | None, what: str
) -> None:
    if found != known:
        print(
            f"rad-jax: warning: {source}: holds {found} {what}, {name} has {known}; "
            "going on with what is there",
            file=sys.stderr,
        )
