"""What a file says beside its samples is carried; a second picture in it is not."""

import base64
import io
import struct
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageCms
from PIL.PngImagePlugin import PngInfo

from rad_jax.files.metadata import is_encoded, with_chunks
from rad_jax.files.pictures import read_picture, write_picture

RANDOM = np.random.default_rng(0)
RGB = RANDOM.integers(0, 256, (16, 24, 3), np.uint8)
_buffer = io.BytesIO()
Image.fromarray(RANDOM.integers(0, 256, (64, 64, 3), np.uint8)).save(_buffer, "JPEG")
SECRET = _buffer.getvalue()
IN_TEXT = base64.b64encode(SECRET).decode()


def exif_by_hand(ifd0, exif_ifd=(), ifd1=(), order="<"):
    """An EXIF block; entries are (tag, type, content), of types 2, 3, 4, 7."""
    head = 8
    directories = [list(ifd0), list(exif_ifd), list(ifd1)]
    sizes = {2: 1, 3: 2, 4: 4, 7: 1}
    if exif_ifd:
        directories[0].append((0x8769, 4, struct.pack(order + "I", 0)))
    starts, at = [], head
    for entries in directories:
        starts.append(at if entries else 0)
        if entries:
            at += 2 + 12 * len(entries) + 4
            at += sum(
                len(data) + len(data) % 2 for *_, data in entries if len(data) > 4
            )
    block = b"II*\0" + struct.pack("<I", head)
    for number, entries in enumerate(directories):
        if not entries:
            continue
        body, rest = b"", b""
        data_at = starts[number] + 2 + 12 * len(entries) + 4
        for tag, kind, data in entries:
            if tag == 0x8769:
                data = struct.pack("<I", starts[1])
            if tag == 0x0201:  # the thumbnail, behind all
                data = struct.pack("<I", at)
            count = len(data) // sizes[kind]
            if len(data) > 4:
                place = struct.pack("<I", data_at + len(rest))
                rest += data + b"\0" * (len(data) % 2)
            else:
                place = data.ljust(4, b"\0")
            body += struct.pack("<HHI", tag, kind, count) + place
        follow = starts[2] if number == 0 else 0
        block += struct.pack("<H", len(entries)) + body + struct.pack("<I", follow)
        block += rest
    return b"Exif\0\0" + block + (SECRET if ifd1 else b"")


THUMBNAIL = [
    (0x0103, 3, struct.pack("<H", 6)),
    (0x0201, 4, b"\0" * 4),
    (0x0202, 4, struct.pack("<I", len(SECRET))),
]
NAMED = (0x010E, 2, b"a description\0")
EXPOSED = (0x9003, 2, b"2026:01:02 03:04:05\0")
ALBUM = '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description xmlns:dc="http://purl.org/dc/elements/1.1/" xmlns:xmp="http://ns.adobe.com/xap/1.0/" xmlns:xmpGImg="http://ns.adobe.com/xap/1.0/g/img/" xmlns:GImage="http://ns.google.com/photos/1.0/image/" dc:source="an album"{0}>{1}</rdf:Description></rdf:RDF></x:xmpmeta>'  # noqa: E501
THUMBNAILS = (
    "<xmp:Thumbnails><rdf:Alt><rdf:li><xmpGImg:image>{}</xmpGImg:image></rdf:li>"
    "</rdf:Alt></xmp:Thumbnails>"
)


def in_lines(text):
    return "&#xA;".join(text[i : i + 76] for i in range(0, len(text), 76))


EXIF = {
    "a thumbnail": exif_by_hand([NAMED], [EXPOSED], THUMBNAIL),
    "a maker's note": exif_by_hand([NAMED], [EXPOSED, (0x927C, 7, SECRET)]),
    "an unknown tag": exif_by_hand([NAMED, (0xFDE8, 7, SECRET)], [EXPOSED]),
    "Photoshop's block": exif_by_hand([NAMED, (0x8649, 7, SECRET)], [EXPOSED]),
    "an interoperable comment": exif_by_hand([NAMED], [EXPOSED, (0xA40B, 7, SECRET)]),
}
XMP = {
    "thumbnails": ALBUM.format("", THUMBNAILS.format(in_lines(IN_TEXT))),
    "a picture": ALBUM.format("", f"<GImage:Data>{IN_TEXT}</GImage:Data>"),
    "an attribute": ALBUM.format(f' GImage:Data="{IN_TEXT}"', ""),
    "in one line": ALBUM.format("", THUMBNAILS.format(IN_TEXT)),
}
PNG_TEXT = {
    "Raw profile type exif": SECRET.hex(),
    "Thumb::Image": "x" * 10,
    "picture": IN_TEXT,
    "lines": "\n".join(IN_TEXT[i : i + 76] for i in range(0, len(IN_TEXT), 76)),
    "json": f'{{"image": "data:image/jpeg;base64,{IN_TEXT}"}}',
    "huge": "many words " * 10_000,
}


def written(folder, source="a.jpg"):
    picture = read_picture(folder / source)
    write_picture(folder / "out.png", picture.samples, picture, {"Seed": "7"})
    data = (folder / "out.png").read_bytes()
    image: Any = Image.open(io.BytesIO(data))
    image.load()
    return data, image


def assert_hidden(data, text):
    """The second picture is nowhere, neither as it was nor packed."""
    image = Image.open(io.BytesIO(data))
    image.load()
    found = [data, image.info.get("exif", b""), image.info.get("xmp", b"")]
    found += [str(value).encode() for value in text.values()]
    for each in found:
        plain = each.replace(b"\n", b"")
        assert SECRET[100:160] not in each
        assert IN_TEXT[200:260].encode() not in plain
        assert SECRET.hex()[200:260].encode() not in plain


@pytest.mark.parametrize("orientation", [None, 6])
@pytest.mark.parametrize("name", EXIF)
def test_previews_in_exif_stay_behind(name, orientation, tmp_path):
    exif = EXIF[name]
    assert SECRET in exif
    if orientation:  # Pillow writes the block anew
        more = (0x0112, 3, struct.pack("<H", orientation))
        exif = exif_by_hand([NAMED, more], [EXPOSED, (0x927C, 7, SECRET)], THUMBNAIL)
    Image.fromarray(RGB).save(tmp_path / "a.jpg", exif=exif)
    data, image = written(tmp_path)
    assert_hidden(data, image.text)
    kept = image.getexif()
    assert kept[0x010E] == "a description"
    assert kept.get_ifd(0x8769)[0x9003] == "2026:01:02 03:04:05"
    assert not kept.get_ifd(-1) and 0x0112 not in kept


@pytest.mark.parametrize("name", XMP)
def test_pictures_in_xmp_stay_behind(name, tmp_path):
    Image.fromarray(RGB).save(tmp_path / "a.jpg", xmp=XMP[name].encode()[:60_000])
    data, image = written(tmp_path)
    assert_hidden(data, image.text)
    assert b'dc:source="an album"' in image.info["xmp"]
    assert b"GImage:Data" not in image.info["xmp"]
    assert b"humbnail" not in image.info["xmp"]


def test_other_xmp_is_the_same_to_the_byte(tmp_path):
    packet = b'<?xpacket begin="" id="x"?>' + ALBUM.format("", "").encode() + b"<?x y?>"
    for name in "a.jpg", "a.png", "a.webp", "a.tif":
        if name == "a.png":
            info = PngInfo()
            info.add_itxt("XML:com.adobe.xmp", packet.decode())
            Image.fromarray(RGB).save(tmp_path / name, pnginfo=info)
        elif name == "a.tif":
            Image.fromarray(RGB).save(tmp_path / name, tiffinfo={700: packet})
        else:
            Image.fromarray(RGB).save(tmp_path / name, xmp=packet)
        assert written(tmp_path, name)[1].info["xmp"] == packet


@pytest.mark.parametrize(
    "packet",
    [
        b"<not xml",
        b"\xff\xfe\xff",
        b'<!DOCTYPE a [<!ENTITY b "' + b"c" * 99 + b'">]><a>&b;</a>',
        b"<a>" * 50_000,
    ],
)
def test_xmp_that_cannot_be_understood_is_left_out(packet, tmp_path):
    Image.fromarray(RGB).save(tmp_path / "a.webp", xmp=packet)
    assert "xmp" not in written(tmp_path, "a.webp")[1].info


def test_text_is_carried_but_for_pictures(tmp_path):
    info = PngInfo()
    plain = {"Title": "tïtle", "parameters": "steps: 20, a cat " * 99, "Seed": "old"}
    for key, value in {**plain, **PNG_TEXT}.items():
        info.add_text(key, value)
    Image.fromarray(RGB).save(tmp_path / "a.png", pnginfo=info)
    data, image = written(tmp_path, "a.png")
    assert image.text == {**plain, "Seed": "7"}
    assert_hidden(data, image.text)


def test_a_jpeg_s_comment_becomes_a_text(tmp_path):
    Image.fromarray(RGB).save(tmp_path / "a.jpg", comment="a comment é".encode())
    assert written(tmp_path)[1].text["Comment"] == "a comment é"


def test_second_pictures_of_a_jpeg_stay_behind(tmp_path):
    """MPF, as phones write it: the second picture lies behind the first."""
    Image.fromarray(RGB).save(
        tmp_path / "a.jpg",
        "MPO",
        save_all=True,
        append_images=[Image.open(io.BytesIO(SECRET))],
    )
    assert len((tmp_path / "a.jpg").read_bytes()) > 2 * len(SECRET) // 2
    data, image = written(tmp_path)
    assert_hidden(data, image.text)
    assert len(data) < RGB.nbytes * 2 and not read_picture(tmp_path / "a.jpg").frames


COLOUR = {
    b"gAMA": struct.pack(">I", 45455),
    b"cHRM": struct.pack(">8I", *range(31270, 31278)),
    b"sRGB": b"\1",
    b"cICP": b"\x09\x10\0\1",
    b"mDCV": bytes(range(24)),
    b"cLLI": bytes(range(8)),
    b"pHYs": struct.pack(">IIB", 2835, 5670, 1),
}


def chunks(data):
    at, found = 8, []
    while at < len(data):
        length, kind = struct.unpack(">I4s", data[at : at + 8])
        found.append((kind, data[at + 8 : at + 8 + length]))
        at += 12 + length
    return found


@pytest.mark.parametrize("mode", ["RGB", "L", "P", "1", "RGBA", "I;16"])
def test_colour_and_resolution_of_a_png_are_the_same_to_the_bit(mode, tmp_path):
    """Equal bytes look different without them."""
    image = Image.fromarray(RGB)
    image = image.quantize(8) if mode == "P" else image.convert(mode)
    encoded = io.BytesIO()
    image.save(encoded, "PNG")
    before = with_chunks(encoded.getvalue(), tuple(COLOUR.items()))
    (tmp_path / "a.png").write_bytes(before)
    data, after = written(tmp_path, "a.png")
    found = chunks(data)
    assert {kind: body for kind, body in found if kind in COLOUR} == COLOUR
    kinds = [kind for kind, _ in found]
    assert len(kinds) - len(set(kinds)) == kinds.count(b"IDAT") - 1
    assert max(map(kinds.index, COLOUR)) < kinds.index(b"IDAT")
    after.load()


def test_a_profile_goes_before_srgb(tmp_path):
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    encoded = io.BytesIO()
    Image.fromarray(RGB).save(encoded, "PNG", icc_profile=profile)
    both = with_chunks(encoded.getvalue(), ((b"sRGB", b"\0"),))
    (tmp_path / "a.png").write_bytes(both)
    data, image = written(tmp_path, "a.png")
    assert b"sRGB" not in dict(chunks(data)) and image.info["icc_profile"] == profile


@pytest.mark.parametrize("name", ["a.jpg", "a.tif", "a.bmp"])
def test_resolution_of_other_formats(name, tmp_path):
    Image.fromarray(RGB).save(
        tmp_path / name, dpi=(300, 150 if name != "a.bmp" else 300)
    )
    x, y = written(tmp_path, name)[1].info["dpi"]
    assert round(x) == 300 and round(y) == (150 if name != "a.bmp" else 300)


def test_resolution_is_turned_with_the_picture(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(RGB).save(tmp_path / "a.png", dpi=(300, 150), exif=exif)
    x, y = written(tmp_path, "a.png")[1].info["dpi"]
    assert (round(x), round(y)) == (150, 300)


def test_damaged_chunks_are_left_out(tmp_path):
    encoded = io.BytesIO()
    Image.fromarray(RGB).save(encoded, "PNG")
    good = encoded.getvalue()
    odd = ((b"mDCV", b"\0\0\0"), (b"cICP", b"1234567"))
    data = with_chunks(good, odd)
    (tmp_path / "a.png").write_bytes(data)
    found = dict(chunks(written(tmp_path, "a.png")[0]))
    assert not {b"mDCV", b"cICP"} & found.keys()


@pytest.mark.parametrize("dpi", [(0, 0), (float("nan"), 1), (1e300, 1), "72", (1,)])
def test_resolutions_that_are_none(dpi):
    from rad_jax.files.metadata import _physical

    assert _physical(dpi) is None


def test_what_is_encoded():
    assert is_encoded(IN_TEXT) and is_encoded(SECRET.hex())
    assert not is_encoded("") and not is_encoded("a b c d " * 1000)
    assert not is_encoded("longer_words_with_underscores " * 1000)
