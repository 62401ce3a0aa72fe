"""The logo: a picture of one folder, and no other file."""

import os
import zlib

import pytest

from services.board.brand.logo import MAX_LOGO_BYTES, Logo, LogoError, read_logo

SVG = b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>'


def make_png(width: int = 40, height: int = 20) -> bytes:
    head = b"IHDR" + width.to_bytes(4) + height.to_bytes(4) + b"\x08\0\0\0\0"
    rows = zlib.compress(b"\0" * (width + 1) * height) if width * height < 10_000 else b""
    parts = (head, b"IDAT" + rows, b"IEND")
    chunks = [(len(each) - 4).to_bytes(4) + each + zlib.crc32(each).to_bytes(4) for each in parts]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def test_a_picture_of_the_folder_is_read_also_by_a_link_within_it(tmp_path):
    (tmp_path / "real.svg").write_bytes(SVG)
    (tmp_path / "logo.svg").symlink_to("real.svg")  # as Kubernetes mounts a file
    (tmp_path / "logo.png").write_bytes(make_png())
    assert read_logo(tmp_path, "logo.svg") == Logo(SVG, "image/svg+xml")
    assert read_logo(tmp_path, "logo.png") == Logo(make_png(), "image/png")


def test_no_file_outside_of_the_folder_is_read(tmp_path):
    folder = tmp_path / "brand"
    folder.mkdir()
    (tmp_path / "secret.svg").write_bytes(SVG)
    (folder / "link.svg").symlink_to(tmp_path / "secret.svg")
    (tmp_path / "brand-other").mkdir()
    (tmp_path / "brand-other" / "logo.svg").write_bytes(SVG)
    for name in ("link.svg", "../secret.svg", "../brand-other/logo.svg", str(tmp_path / "secret.svg")):
        with pytest.raises(LogoError, match="link out of"):
            read_logo(folder, name)
    with pytest.raises(LogoError, match="BOARD_BRAND_FOLDER is not set"):
        read_logo(None, "logo.svg")


def test_a_pipe_a_folder_and_a_circle_of_links_are_refused_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.svg")
    (tmp_path / "folder.svg").mkdir()
    (tmp_path / "circle.svg").symlink_to("circle.svg")
    for name in ("pipe.svg", "folder.svg", "circle.svg", "missing.svg", "nul\0.svg"):
        with pytest.raises(LogoError):
            read_logo(tmp_path, name)


@pytest.mark.parametrize(
    ("name", "content", "why"),
    [
        ("logo.svg", b"<html></html>", "first element is not svg"),
        ("logo.svg", b"<svg", "no SVG"),
        ("logo.svg", b'<!DOCTYPE svg [<!ENTITY a "b">]><svg>&a;</svg>', "no SVG"),
        ("logo.svg", make_png(), "no SVG"),
        ("logo.svg", SVG.ljust(MAX_LOGO_BYTES + 1), f"more than {MAX_LOGO_BYTES} bytes"),
        ("logo.png", SVG, "no PNG"),
        ("logo.png", make_png()[:20], "no PNG"),
        ("logo.png", make_png(5000, 1), "4096 pixels"),
        ("logo.png", make_png(0, 1), "4096 pixels"),
    ],
)
def test_what_is_no_such_picture_is_refused_with_the_reason(tmp_path, name: str, content: bytes, why: str):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(LogoError, match=why):
        read_logo(tmp_path, name)
