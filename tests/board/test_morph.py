"""A part of a page becomes what the server made of it, and what is still there stays the same element."""

import random
from collections.abc import Iterator

import pytest
from playwright.sync_api import Page, expect

from support.board_examples import make_small
from support.rig.board_site import BoardSite
from support.rig.browser import Tabs, needs_chromium

pytestmark = needs_chromium
MORPH = """async (pairs) => {
  const script = document.querySelector("script[type=module]").src.replace(/[a-z_]+.js$/, "morph.js");
  const { morph } = await import(script);
  const read = (html) => new DOMParser().parseFromString(html, "text/html");
  const parse = (html) => read(`<main id="mine">${html}</main>`).body.firstChild;
  return pairs.map(([before, after]) => {
    const mine = before === null ? document.getElementById("mine") : parse(before);
    if (mine.ownerDocument !== document) document.body.append(mine);
    const list = () => new Map([...mine.children].map((each) => [each.dataset.key, each]));
    const [known, wanted] = [list(), parse(after)];
    morph(mine, parse(after));
    const kept = [...list()].filter(([key, each]) => key && known.has(key) && known.get(key) !== each);
    if (pairs.length > 1) mine.remove();
    return [mine.innerHTML, wanted.innerHTML, kept.length];
  });
}"""
TEXTS = ("", " ", "\n", "a", "b &amp; c")


def make_parts(chance: random.Random, depth: int = 2) -> str:
    """Return HTML of some elements and texts between them; those with a key have each key once."""
    keys = chance.sample("klmn", chance.randint(0, 4))
    names = [f'div data-key="{key}" class="{chance.choice("xy")}"' for key in keys]
    names += chance.choices(("div", "i"), k=chance.randint(0, 3))
    chance.shuffle(names)
    parts = []
    for name in names:
        inside = make_parts(chance, depth - 1) if depth else chance.choice(TEXTS)
        parts += [f"<{name}>{inside}</{name.partition(' ')[0]}>", chance.choice(TEXTS)]
    return "".join(parts)


@pytest.fixture
def page(new_tab: Tabs) -> Iterator[Page]:
    with BoardSite(make_small()) as site:
        yield new_tab().open(site.url)


def test_it_becomes_what_the_server_made_and_an_element_with_a_key_stays(page: Page):
    chance = random.Random(1)
    pairs = [(make_parts(chance), make_parts(chance)) for _ in range(400)]
    for pair, (made, wanted, replaced) in zip(pairs, page.evaluate(MORPH, pairs), strict=True):
        assert (made, replaced) == (wanted, 0), pair


def test_elements_that_change_places_stay_the_same_ones(page: Page):
    first, second = '<div data-key="k">1</div>', '<div data-key="l">2</div>'
    pairs = [(first + second, second + first), (first, second)]
    swapped, replaced = page.evaluate(MORPH, pairs)
    assert swapped == [second + first, second + first, 0]
    assert replaced == [second, second, 0]


def test_what_its_reader_opened_typed_chose_and_has_in_focus_stays(page: Page):
    before = (
        '<details data-key="d"><summary>more</summary>old</details>'
        '<form data-key="f"><input id="typed"></form>'
        '<select id="tag"><option>any</option><option>a</option></select>'
    )
    after = (
        '<p data-key="new">new</p><form data-key="f"><input id="typed" class="x"></form>'
        '<select id="tag"><option>any</option><option>0</option><option>a</option></select>'
        '<details data-key="d"><summary>more</summary>new</details>'
    )
    page.evaluate(MORPH, [(before, before)])
    page.locator("#mine summary").click()
    page.locator("#tag").select_option("a")
    page.locator("#typed").fill("half a sen")
    page.evaluate(MORPH, [(None, after)])
    expect(page.locator("#typed")).to_have_value("half a sen")
    expect(page.locator("#typed")).to_be_focused()
    expect(page.locator("#tag")).to_have_value("a")
    assert page.locator("#mine details").evaluate("(one) => one.open")
    expect(page.locator("#mine details")).to_contain_text("new")


def test_what_is_not_the_servers_any_more_stays(page: Page):
    made = '<section id="made" data-own="">a secret that is shown once</section>'
    ((html, _, _),) = page.evaluate(MORPH, [(f"<p>1</p>{made}<p>2</p>", "<p>3</p><p>4</p>")])
    assert html == f"<p>3</p>{made}<p>4</p>"
    nameless = made.replace(' id="made"', "")
    ((html, _, _),) = page.evaluate(MORPH, [(nameless, "<section>new</section>")])
    assert html == f"<section>new</section>{nameless}", "also in the place of one that the server has"


def test_what_became_of_a_form_stays_while_its_page_is_fetched_again(page: Page):
    said = '<p class="said bad" id="notice" data-own="">refused</p>'
    before, after = f"{said}<p>1</p>", "<p>2</p>"
    both = page.evaluate(MORPH, [(before, after), (before, f"{said}{after}")])
    assert [html for html, _, _ in both] == [f"{said}{after}"] * 2
