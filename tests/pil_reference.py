#!/usr/bin/env python3
"""Writes what PIL makes of image files, for image_test.cc to compare with.

usage: pil_reference.py OUT                 makes files of all supported formats in OUT and reads them
       pil_reference.py OUT --photos DIR    reads the photos in DIR

OUT/decoded.tsv has a line per image: path, width, height, file of the RGB pixels that read_rgb() gives.
OUT/oriented.tsv has a line per image with EXIF data: the same of the image that ImageOps.exif_transpose() turns upright.
OUT/transformed.tsv has a line per transform of an image: path, resize, crop height, crop width, file of the cropped
RGB pixels.
Exit status 77: PIL or numpy is not there.
"""

import pathlib
import struct
import sys
import warnings
import zlib

try:
    import numpy as np
    from PIL import Image, ImageOps
except ImportError as error:
    print(error)
    sys.exit(77)

# (resize, crop height, crop width): torchvision's presets for this network and a small one; for files made here also
# odd differences, an upscaling one and crops beyond the image.
PHOTO_TRANSFORMS = [(256, 224, 224), (232, 224, 224), (64, 64, 64)]
TRANSFORMS = PHOTO_TRANSFORMS + [(64, 49, 38), (63, 50, 37), (640, 224, 224), (40, 64, 51), (41, 63, 64)]
SIZES = [(1, 1), (2, 3), (50, 1), (1, 33), (5, 41), (64, 64), (65, 64), (97, 131), (256, 300), (641, 479), (1500, 90)]


def read_rgb(path):
    """Image.convert("RGB"). An index beyond the palette becomes grey, as PIL 9 has it; PIL 11 takes black."""
    image = Image.open(path)
    if image.mode == "P":
        palette = image.getpalette()
        image.putpalette(palette + [index for index in range(len(palette) // 3, 256) for _ in range(3)])
    return image.convert("RGB")


# torchvision's rules, transforms/functional.py


def resize(image, size):
    width, height = image.size
    short, long = min(width, height), max(width, height)
    other = int(size * long / short)
    return image.resize((size, other) if width <= height else (other, size), Image.BILINEAR)


def center_crop(image, height, width):
    pixels = np.asarray(image)
    missing_y, missing_x = max(height - image.height, 0), max(width - image.width, 0)
    pixels = np.pad(pixels, ((missing_y // 2, (missing_y + 1) // 2), (missing_x // 2, (missing_x + 1) // 2), (0, 0)))
    top = int(round((pixels.shape[0] - height) / 2.0))
    left = int(round((pixels.shape[1] - width) / 2.0))
    return pixels[top : top + height, left : left + width]


# Files that PIL cannot write

GREY, COLOUR, INDEXED, GREY_ALPHA, COLOUR_ALPHA = 0, 2, 3, 4, 6
ADAM7 = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)]


def png_chunk(name, data):
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png_rows(samples, depth):
    """Unfiltered rows of samples[y, x, channel]."""
    if depth == 16:
        packed = samples.astype(">u2").reshape(len(samples), -1).view(np.uint8)
    else:
        bits = np.unpackbits(samples.astype(np.uint8).reshape(len(samples), -1, 1), axis=2)[:, :, 8 - depth :]
        packed = np.packbits(bits.reshape(len(samples), -1), axis=1)
    return b"".join(b"\0" + row.tobytes() for row in packed)


def png(samples, depth, colour_type, palette=b"", transparency=b"", interlaced=False, window=15, exif_behind=b""):
    """window: the logarithm of the one that zlib's header names, whatever the data need."""
    height, width, _ = samples.shape
    passes = [samples[y::dy, x::dx] for x, y, dx, dy in ADAM7] if interlaced else [samples]
    data = b"".join(png_rows(part, depth) for part in passes if part.size)
    chunks = png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour_type, 0, 0, int(interlaced)))
    if palette:
        chunks += png_chunk(b"PLTE", palette)
    if transparency:
        chunks += png_chunk(b"tRNS", transparency)
    first = window - 8 << 4 | 8
    compressed = bytes([first, 31 - first * 256 % 31]) + zlib.compress(data)[2:]
    chunks += png_chunk(b"IDAT", compressed)
    if exif_behind:
        chunks += png_chunk(b"eXIf", exif_behind)
    return b"\x89PNG\r\n\x1a\n" + chunks + png_chunk(b"IEND", b"")


def bmp(rows, bits, height=None, compression=0, masks=b"", palette=b"", colours=0):
    """rows: list of packed rows, bottom up, or top down with a negative height."""
    height = len(rows) if height is None else height
    width = len(rows[0]) * 8 // bits
    header = struct.pack("<IiiHHIIiiII", 40, width, height, 1, bits, compression, 0, 2835, 2835, colours, 0)
    start = 14 + len(header) + len(masks) + len(palette)
    data = b"".join(row + bytes(-len(row) % 4) for row in rows)
    return b"BM" + struct.pack("<IHHI", start + len(data), 0, 0, start) + header + masks + palette + data


def os2_bmp(rows, palette):
    data = b"".join(row + bytes(-len(row) % 4) for row in rows)
    start = 26 + len(palette)
    header = struct.pack("<IHHHH", 12, len(rows[0]), len(rows), 1, 8)
    return b"BM" + struct.pack("<IHHI", start + len(data), 0, 0, start) + header + palette + data


def exif(orientation, order):
    """The TIFF file of EXIF data; order: ">" big-endian, "<" little-endian."""
    entries = struct.pack(order + "HHIHH", 0x0103, 3, 1, 6, 0) + struct.pack(order + "HHIHH", 0x0112, 3, 1, orientation, 0)
    return {"<": b"II", ">": b"MM"}[order] + struct.pack(order + "HIH", 42, 8, 2) + entries + bytes(4)


def with_adobe_marker(jpeg, transform):
    """Replaces a JFIF marker by Adobe's, which names the colour transform: 0 none, 1 YCbCr, 2 YCCK."""
    start = jpeg.index(b"\xff\xe0")
    end = start + 2 + struct.unpack(">H", jpeg[start + 2 : start + 4])[0]
    return jpeg[:start] + b"\xff\xee\0\x0eAdobe\0\x64\0\0\0\0" + bytes([transform]) + jpeg[end:]


def as_ycck(cmyk_jpeg):
    at = cmyk_jpeg.index(b"Adobe") + 11
    return cmyk_jpeg[:at] + b"\2" + cmyk_jpeg[at + 1 :]


# The test set


def picture(width, height, seed=0):
    """Gradients, a disc and noise: what shows errors of chroma, position and rounding."""
    y, x = np.mgrid[0:height, 0:width].astype(np.float64)
    disc = 90 * (np.hypot(x - width * 0.4, y - height * 0.6) < 0.3 * min(width, height))
    noise = np.random.default_rng(seed).integers(-20, 21, (height, width, 3))
    planes = np.stack([255 * x / width, 255 * y / height, 128 + disc - 60 * np.sin(x / 7)], axis=2)
    return np.clip(planes + noise, 0, 255).astype(np.uint8)


def write_jpegs(out):
    rgb = Image.fromarray(picture(173, 131))
    for name, options in {
        "420": {"subsampling": 2},
        "422": {"subsampling": 1},
        "444": {"subsampling": 0},
        "low": {"quality": 20},
        "progressive": {"progressive": True, "subsampling": 2},
        "optimised": {"quality": 90, "optimize": True},
    }.items():
        rgb.save(out / f"rgb_{name}.jpg", **options)
    for width, height in [(1, 1), (2, 3), (17, 1), (1, 33), (31, 16)]:
        Image.fromarray(picture(width, height)).save(out / f"rgb_{width}x{height}.jpg", quality=85)
    rgb.convert("L").save(out / "grey.jpg")
    rgb.convert("L").save(out / "grey_progressive.jpg", progressive=True)
    (out / "adobe_rgb.jpg").write_bytes(with_adobe_marker((out / "rgb_444.jpg").read_bytes(), 0))
    (out / "adobe_ycc.jpg").write_bytes(with_adobe_marker((out / "rgb_420.jpg").read_bytes(), 1))
    cmyk = Image.fromarray(np.dstack([picture(173, 131), picture(173, 131, 1)[:, :, 0] // 2]), "CMYK")
    cmyk.save(out / "cmyk.jpg")
    cmyk.save(out / "cmyk_progressive.jpg", progressive=True)
    (out / "ycck.jpg").write_bytes(as_ycck((out / "cmyk.jpg").read_bytes()))


def write_pngs(out):
    rgb = Image.fromarray(picture(61, 43))
    rgb.save(out / "rgb.png")
    rgb.convert("L").save(out / "l.png")
    rgb.convert("1").save(out / "1bit.png")
    rgb.quantize(200).save(out / "p.png")
    rgb.quantize(13).save(out / "p_4bit.png")
    rgb.quantize(200).save(out / "p_transparent_index.png", transparency=3)
    alpha = Image.fromarray(picture(61, 43, 1)[:, :, 0])
    rgba = rgb.copy()
    rgba.putalpha(alpha)
    rgba.save(out / "rgba.png")
    rgba.convert("LA").save(out / "la.png")

    random = np.random.default_rng(2)
    palette = random.integers(0, 256, 3 * 256, np.uint8).tobytes()
    for interlaced in (False, True):
        suffix = "_interlaced.png" if interlaced else ".png"
        for depth in (1, 2, 4, 8):
            samples = random.integers(0, 2**depth, (37, 29, 1))
            grey = png(samples, depth, GREY, interlaced=interlaced)
            (out / f"raw_l{depth}{suffix}").write_bytes(grey)
            indexed = png(samples, depth, INDEXED, palette[: 3 * 2**depth], bytes([0, 128]), interlaced)
            (out / f"raw_p{depth}{suffix}").write_bytes(indexed)
        for depth in (8, 16):
            for name, kind, channels in [("rgb", COLOUR, 3), ("la", GREY_ALPHA, 2), ("rgba", COLOUR_ALPHA, 4)]:
                samples = random.integers(0, 2**depth, (37, 29, channels))
                (out / f"raw_{name}{depth}{suffix}").write_bytes(png(samples, depth, kind, interlaced=interlaced))
    samples = random.integers(0, 256, (37, 29, 3))
    (out / "raw_rgb8_transparent.png").write_bytes(png(samples, 8, COLOUR, transparency=bytes(6)))
    (out / "raw_l8_transparent.png").write_bytes(png(samples[:, :, :1], 8, GREY, transparency=bytes(2)))
    (out / "raw_p8_short_palette.png").write_bytes(png(samples[:, :, :1], 8, INDEXED, palette[: 3 * 100]))


    # Distances that a small window does not reach, as in a tall image of equal rows.
    far = np.tile(random.integers(0, 256, (1, 300, 3)), (30, 1, 1))
    for window in range(8, 16):
        (out / f"window_{window}.png").write_bytes(png(far, 8, COLOUR, window=window))
        (out / f"window_{window}_interlaced.png").write_bytes(png(far, 8, COLOUR, window=window, interlaced=True))


def write_oriented(out):
    rgb = Image.fromarray(picture(141, 75))
    cmyk = Image.fromarray(np.dstack([picture(141, 75), picture(141, 75, 1)[:, :, 0] // 2]), "CMYK")
    for orientation in range(1, 9):
        for order, name in (("<", "little"), (">", "big")):
            data = exif(orientation, order)
            jpeg = {"exif": b"Exif\0\0" + data, "quality": 85}
            rgb.save(out / f"exif_{name}{orientation}.jpg", **jpeg)
            rgb.convert("L").save(out / f"exif_{name}{orientation}_grey.jpg", progressive=True, **jpeg)
            cmyk.save(out / f"exif_{name}{orientation}_cmyk.jpg", **jpeg)
            rgb.save(out / f"exif_{name}{orientation}.png", exif=data)
            rgb.quantize(50).save(out / f"exif_{name}{orientation}_palette.png", exif=data)
            behind = png(picture(5, 3), 8, COLOUR, exif_behind=data)
            (out / f"exif_{name}{orientation}_behind.png").write_bytes(behind)


def write_bmps(out):
    rgb = Image.fromarray(picture(45, 31))
    rgb.save(out / "rgb24.bmp")
    rgb.convert("L").save(out / "l8.bmp")
    rgb.convert("1").save(out / "1bit.bmp")
    rgb.quantize(99).save(out / "p8.bmp")
    rgb.convert("RGBA").save(out / "rgba32.bmp")

    random = np.random.default_rng(3)
    rows = [random.integers(0, 256, 44, np.uint8).tobytes() for _ in range(19)]
    palette = random.integers(0, 256, 4 * 256, np.uint8).tobytes()
    words = lambda *masks: struct.pack(f"<{len(masks)}I", *masks)
    for name, data in {
        "p1": bmp(rows, 1, palette=palette[:8]),
        "p4": bmp(rows, 4, palette=palette[:64]),
        "p4_short": bmp(rows, 4, palette=palette[:28], colours=7),
        "p8_top_down": bmp(rows, 8, palette=palette, height=-19),
        "rgb24_top_down": bmp([row[:33] for row in rows], 24, height=-19),
        "rgb555": bmp(rows, 16),
        "rgb555_masks": bmp(rows, 16, compression=3, masks=words(0x7C00, 0x3E0, 0x1F)),
        "rgb565_masks": bmp(rows, 16, compression=3, masks=words(0xF800, 0x7E0, 0x1F)),
        "bgrx32": bmp(rows, 32),
        "bgrx32_masks": bmp(rows, 32, compression=3, masks=words(0xFF0000, 0xFF00, 0xFF)),
        "xbgr32_masks": bmp(rows, 32, compression=3, masks=words(0xFF000000, 0xFF0000, 0xFF00)),
        "os2": os2_bmp(rows, palette[: 3 * 256]),
    }.items():
        (out / f"raw_{name}.bmp").write_bytes(data)


def write_pnms(out):
    rgb = picture(23, 19)
    Image.fromarray(rgb).save(out / "rgb.ppm")
    Image.fromarray(rgb[:, :, 0].copy()).save(out / "grey.pgm")
    random = np.random.default_rng(4)
    (out / "comment.pgm").write_bytes(b"P5 # made\n# by hand\n7\t5#\n \r\n25# within\n5\n" + random.bytes(35))
    (out / "maximum_100.pgm").write_bytes(b"P5\n16 16\n100\n" + bytes(range(256)))
    (out / "maximum_1.pgm").write_bytes(b"P5\n3 3\n1\n" + bytes([0, 1, 2] * 3))
    (out / "maximum_77.ppm").write_bytes(b"P6\n16 16\n77\n" + random.bytes(768))
    (out / "maximum_65535.ppm").write_bytes(b"P6\n16 16\n65535\n" + random.bytes(1536))
    (out / "maximum_1000.ppm").write_bytes(b"P6\n16 16\n1000\n" + random.integers(0, 1200, 768).astype(">u2").tobytes())


def write_lines(path, rows):
    path.write_text("".join("\t".join(str(cell) for cell in row) + "\n" for row in rows))


def write_decoded(out, images):
    lines = []
    for number, path in enumerate(images):
        image = read_rgb(path)
        pixels = out / f"{number}.rgb"
        pixels.write_bytes(image.tobytes())
        lines.append((path, image.width, image.height, pixels))
    write_lines(out / "decoded.tsv", lines)


def write_transposed(out, images):
    lines = []
    for number, path in enumerate(images):
        image = ImageOps.exif_transpose(read_rgb(path))
        pixels = out / f"{number}_upright.rgb"
        pixels.write_bytes(image.tobytes())
        lines.append((path, image.width, image.height, pixels))
    write_lines(out / "oriented.tsv", lines)


def write_transformed(out, images, transforms):
    lines = []
    for number, path in enumerate(images):
        image = read_rgb(path)
        for size, height, width in transforms:
            pixels = out / f"{number}_{size}_{height}x{width}.rgb"
            pixels.write_bytes(center_crop(resize(image, size), height, width).tobytes())
            lines.append((path, size, height, width, pixels))
    write_lines(out / "transformed.tsv", lines)


def write_formats(out):
    for write in (write_jpegs, write_pngs, write_oriented, write_bmps, write_pnms):
        write(out)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Of tRNS chunks, which are dropped on purpose.
        write_decoded(out, sorted(out.iterdir()))
        write_transposed(out, sorted(out.glob("exif_*.[jp][pn]g")))
    sizes = [out / f"size_{width}x{height}.png" for width, height in SIZES]
    for path, (width, height) in zip(sizes, SIZES):
        Image.fromarray(picture(width, height)).save(path)
    write_transformed(out, sizes, TRANSFORMS)


def write_photos(out, folder):
    images = sorted(folder.glob("*.jpg"))
    write_decoded(out, images)
    write_transformed(out, images, PHOTO_TRANSFORMS)


def main(arguments):
    out = pathlib.Path(arguments[0])
    if arguments[1:2] == ["--photos"]:
        write_photos(out, pathlib.Path(arguments[2]))
    else:
        write_formats(out)


if __name__ == "__main__":
    main(sys.argv[1:])
