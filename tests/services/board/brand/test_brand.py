"""What the pages show of one's own look, and the two files that go with it."""

from types import SimpleNamespace

import httpx
from fastapi import FastAPI

from marketswarm.web.responses import ErrorPage
from services.board.brand.brand import NO_BRAND, BrandFiles, make_brand_site
from services.board.settings import BrandSettings
from services.board.templates import TEMPLATES

SVG = '<svg xmlns="http://www.w3.org/2000/svg" width="9" height="{}"/>'
FULL = {"name": "Example <b>", "logo": "logo.svg", "primary": "#2a7fd0"}


class Rig:
    """The brand of settings that a test changes, as pages and as answers."""

    def __init__(self, folder) -> None:
        self.settings = BrandSettings()
        self.warnings: list[str] = []
        log = SimpleNamespace(warning=lambda event, why: self.warnings.append(f"{event}: {why}"))
        self.files = BrandFiles(lambda: self.settings, folder, log)
        self.templates = TEMPLATES.replace_functions({"find_brand": self.files.get})
        app = FastAPI()
        app.include_router(make_brand_site(self.files))
        self.client = httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://board")

    def change(self, **settings) -> None:
        self.settings = BrandSettings.model_validate(settings)
        self.files.read()


async def test_pages_have_the_name_the_logo_and_the_colours_of_the_truth(tmp_path):
    (tmp_path / "logo.svg").write_text(SVG.format(9))
    rig = Rig(tmp_path)
    rig.change(**FULL)
    brand = rig.files.get()
    page = rig.templates.render(ErrorPage(404, "nothing", ""))
    assert "Example &lt;b&gt;" in page
    assert f'src="{brand.logo}"' in page
    assert page.index("board.css") < page.index(brand.colours)
    colours = await rig.client.get(brand.colours)
    assert colours.headers["content-type"] == "text/css; charset=utf-8"
    assert colours.text == (
        ":root { --primary: light-dark(#2a7fd0, #2a7fd0); }\n"
        ':root[data-theme="navy"] { --primary: #2a7fd0; }\n'
    )  # fmt: skip


async def test_a_logo_is_kept_by_its_content_and_runs_nothing_where_it_is_shown_by_itself(tmp_path):
    (tmp_path / "logo.svg").write_text(SVG.format(9))
    rig = Rig(tmp_path)
    rig.change(**FULL)
    first = rig.files.get().logo
    answer = await rig.client.get(first)
    assert answer.headers["content-type"] == "image/svg+xml"
    assert answer.headers["content-security-policy"].endswith("; sandbox")
    assert "script-src" not in answer.headers["content-security-policy"]
    assert "immutable" in answer.headers["cache-control"]
    (tmp_path / "logo.svg").write_text(SVG.format(10))
    rig.change(**FULL)
    assert rig.files.get().logo != first
    old = await rig.client.get(first)
    assert (old.text, old.headers["cache-control"]) == (SVG.format(10), "no-cache")


async def test_a_logo_that_can_not_be_used_is_left_out_and_logged_once(tmp_path):
    rig = Rig(tmp_path)
    for _ in range(3):
        rig.change(**FULL)
    assert rig.warnings == ["board.logo_unusable: it can't be read: No such file or directory"]
    brand = rig.files.get()
    assert (brand.name, brand.logo) == ("Example <b>", "")
    assert (await rig.client.get("/static/brand/0/logo")).status_code == 404
    (tmp_path / "logo.svg").write_text(SVG.format(9))
    rig.change(**FULL)
    assert rig.files.get().logo


async def test_without_a_brand_pages_are_those_of_the_project(tmp_path):
    rig = Rig(tmp_path)
    rig.change()
    assert rig.files.get() == NO_BRAND
    page = ErrorPage(404, "nothing", "")
    assert rig.templates.render(page) == TEMPLATES.render(page)
    assert "brand" not in TEMPLATES.render(page)
    assert (await rig.client.get("/static/brand/0/colours.css")).status_code == 404
