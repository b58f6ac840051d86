"""What `large_pictures.py` measured, as Markdown."""

from typing import Any


def large_pictures_text(record: dict[str, Any] | None) -> str:
    """Strategies beside each other; what a photo and a preview cost."""
    if record is None:
        return "not measured (`python benchmarks/large_pictures.py`)"
    photo = record["photo"]
    rows = record["strategies"]
    changed = sum(row["known_pixels_changed"] for row in [*rows, photo])
    lines = [
        "![montages of digits with three holes, filled by auto, whole, crop, resize "
        "and tile](large_pictures.png)",
        "",
        "Montages of held-out digits, enlarged twice: the picture, its hole "
        "(grey), then `auto`, `whole`, `crop`, `resize`, `tile`. Error is RMS in the "
        "hole, grey levels in [0, 1]; seam is the jump at the border over that of the "
        "original (1: as in the original).",
        "",
        "| enlarged | hole | strategy | error | seam | s/picture | how |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        lines.append(
            f"| {row['pixels']}x | {row['hole']} | `{row['strategy']}` "
            f"| {row['hole_rmse']:.3f} | {row['seam_ratio']:.2f} "
            f"| {row['seconds']:.2f} | {row['regions'].removeprefix('filled by ')} |"
        )
    large = photo["photo_seconds"] / photo["native_seconds"]
    previews = ", ".join(
        f"{calls['on_step'] / calls['plain'] - 1:+.1%} at {side}x{side} pixels"
        for side, calls in record["calls"].items()
    )
    lines += [
        "",
        f"Known pixels that changed: {changed}. A photo of 4000x3000 with three holes "
        f"takes {large:.2f} times as long as three images of the network's size "
        f"({photo['regions']}). Previews every 10 steps change the time of a call by "
        f"{previews}. Beside the network a call of `Inpainter` takes "
        f"{1e3 * record['seconds_beside_fill']:.1f} ms (16x16 pixels). "
        f"{record['protocol']}.",
    ]
    return "\n".join(lines)
