"""Markdown in an answer: what it becomes, that nothing in it can act, and that its cost grows with its length only."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

pytestmark = pytest.mark.browser

RENDER = """async (text) => {
  const base = document.querySelector('script[type=module]').src.replace('app.js', '');
  const { renderMarkdown } = await import(base + 'markdown.js');
  const element = document.createElement('div');
  const began = performance.now();
  renderMarkdown(element, text);
  const took = performance.now() - began;
  for (const button of element.querySelectorAll('.code-head')) button.remove();
  for (const said of element.querySelectorAll('[data-said]')) said.removeAttribute('data-said');
  return { html: element.innerHTML, text: element.textContent, took };
}"""
LINK = 'target="_blank" rel="noopener noreferrer nofollow" class="outside"'


@pytest.fixture(scope="module")
def page(browser: Any, stand: Any) -> Any:
    page = browser.new_context().new_page()
    page.goto(stand.url)
    page.wait_for_selector("h1")
    return page


@pytest.fixture(scope="module")
def render(page: Any) -> Callable[[str], Any]:
    return lambda text: page.evaluate(RENDER, text)


FORMS = [
    ("plain", "<p>plain</p>"),
    ("two\nlines", "<p>two\nlines</p>"),
    ("one\n\ntwo", "<p>one</p><p>two</p>"),
    ("**bold** and *soft* and ~~gone~~", "<p><strong>bold</strong> and <em>soft</em> and <del>gone</del></p>"),
    ("***both***", "<p><strong><em>both</em></strong></p>"),
    ("snake_case_name and _soft_", "<p>snake_case_name and <em>soft</em></p>"),
    ("中文**加粗**后续", "<p>中文<strong>加粗</strong>后续</p>"),
    ("中文**“引号”**后续", "<p>中文<strong>“引号”</strong>后续</p>"),
    ("2 * 3 * 4 and a ** b", "<p>2 * 3 * 4 and a ** b</p>"),
    ("**open", "<p>**open</p>"),
    ("a*b", "<p>a*b</p>"),
    ("`a < b` and ``x ` y``", "<p><code>a &lt; b</code> and <code>x ` y</code></p>"),
    ("`open", "<p>`open</p>"),
    (r"\*not soft\* \\ \a", "<p>*not soft* \\ \\a</p>"),
    ("# One\n\n#### Two\n## Three", "<h3>One</h3><h4>Two</h4><h4>Three</h4>".replace('">', '">')),
    ("#hashtag", "<p>#hashtag</p>"),
    ("- a\n- b\n  - c", "<ul><li><span>a</span></li><li><span>b</span><ul><li><span>c</span></li></ul></li></ul>"),
    ("3. c\n4. d", '<ol start="3"><li><span>c</span></li><li><span>d</span></li></ol>'),
    ("1. a\n\n2. b", "<ol><li><span>a</span></li><li><span>b</span></li></ol>"),
    ("text\n- item", "<p>text</p><ul><li><span>item</span></li></ul>"),
    ("> quote\n> more", "<blockquote><p>quote\nmore</p></blockquote>"),
    ("---", "<hr>"),
    (
        "see https://example.org/a_b. Or",
        '<p>see <a href="https://example.org/a_b" title="https://example.org/a_b" '
        f"{LINK}>https://example.org/a_b</a>. Or</p>",
    ),
    (
        "[text](https://example.org/(x))",
        f'<p><a href="https://example.org/(x)" title="https://example.org/(x)" {LINK}>text</a></p>',
    ),
    ("[no link] and [x](", "<p>[no link] and [x](</p>"),
    (
        "![picture](https://example.org/a.png)",
        f'<p><a href="https://example.org/a.png" title="https://example.org/a.png" {LINK}>picture</a></p>',
    ),
]


@pytest.mark.parametrize(("source", "expected"), FORMS)
def test_each_form_becomes_its_element(render: Callable[[str], Any], source: str, expected: str) -> None:
    found = render(source)["html"].replace(' class="heading"', "").replace('<span class="item">', "<span>")
    assert found == expected


def test_code_keeps_every_character(render: Callable[[str], Any]) -> None:
    found = render("```html\n<b>&amp;</b>\n\n  indented\n```")
    assert found["text"] == "<b>&amp;</b>\n\n  indented"


def test_a_table_has_header_cells_and_sides(render: Callable[[str], Any]) -> None:
    html = render("| a | b |\n|---|--:|\n| `x` | 1 |\n| only |")["html"]
    assert '<th class="left" scope="col">a</th><th class="right" scope="col">b</th>' in html
    assert '<td class="left"><code>x</code></td><td class="right">1</td>' in html
    assert html.count("<tr>") == 3


ATTACKS = [
    "<script>window.hit = 1</script>",
    "<img src=x onerror='window.hit = 1'>",
    "<svg onload='window.hit = 1'><animate onbegin='window.hit = 1'></svg>",
    "<iframe srcdoc='<script>top.hit = 1</script>'></iframe>",
    "<a href='javascript:window.hit = 1'>x</a>",
    "[x](javascript:window.hit=1)",
    "[x](JaVaScRiPt:window.hit=1)",
    "[x](  javascript:window.hit=1)",
    "[x](java\nscript:window.hit=1)",
    "[x](data:text/html,<script>window.hit=1</script>)",
    "[x](vbscript:x)",
    "[x](file:///etc/passwd)",
    "[x](//example.org/protocol-relative)",
    "[x](https://user:pass@example.org/)",
    "![x](https://example.org/pixel.png)",
    "![x](javascript:window.hit=1)",
    '[x](https://example.org/"onmouseover="window.hit=1)',
    "<https://example.org/><script>window.hit=1</script>",
    "```<script>window.hit=1</script>\n</code></pre><script>window.hit=1</script>\n```",
    "| <img src=x onerror=window.hit=1> |\n|---|\n| <script>window.hit=1</script> |",
    "# <style>*{display:none}</style>",
    "&lt;script&gt;window.hit=1&lt;/script&gt;",
    "<math><mtext></mtext><script>window.hit=1</script></math>",
    "<form action='https://example.org'><button>x</button></form>",
    "<meta http-equiv=refresh content='0;url=https://example.org'>",
    "\u202e<script>window.hit=1</script>",
    "<!--<img src='--><img src=x onerror=window.hit=1>'>",
]


# What the renderer writes, and no more; whatever it is given.
WRITTEN = """(texts) => Promise.all(texts.map(async (text) => {
  const base = document.querySelector('script[type=module]').src.replace('app.js', '');
  const { renderMarkdown } = await import(base + 'markdown.js');
  const element = document.createElement('div');
  renderMarkdown(element, text);
  const nodes = [...element.querySelectorAll('*')];
  const attributes = nodes.flatMap((node) => [...node.attributes].map(({ name }) => name));
  return {
    tags: nodes.map((node) => node.tagName.toLowerCase()),
    attributes: attributes.filter((name) => /^on|^style$|^src|^srcdoc$|^formaction$|xlink/.test(name)),
    links: nodes.filter((node) => node.href && node.tagName === 'A').map((node) => node.protocol),
  };
}))"""
TAGS = {
    *("p", "a", "code", "pre", "div", "span", "button", "table", "thead", "tbody", "tr", "th", "td", "h3", "h4", "h5"),
    *("h6", "svg", "path", "ul", "ol", "li", "strong", "em", "del", "hr", "br", "blockquote", "input"),
}
WORDS = r"""<script> </script> <img src=x onerror= <svg onload= javascript: data:text/html, mailto:a@b.c https://a.b/
[x]( ) ![ ]( < > ` ``` | --- ** _ ~~ # - 1. &lt; " \ HTTPS://"""
PIECES = st.sampled_from(
    [*WORDS.split(), "\n", "\n\n", "\t", "    ", " ", "\x00", "\u202e", "> ", "# ", "- ", "- [ ] ", "1. "]
)
HOSTILE = st.lists(PIECES | st.text(max_size=5), max_size=25).map("".join)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(HOSTILE, min_size=20, max_size=40))
def test_whatever_it_is_given_the_renderer_writes_nothing_that_acts(page: Any, texts: list[str]) -> None:
    for text, written in zip(texts, page.evaluate(WRITTEN, texts), strict=True):
        assert set(written["tags"]) <= TAGS, text
        assert written["attributes"] == [], text
        assert set(written["links"]) <= {"http:", "https:", "mailto:"}, text


def test_nothing_in_an_answer_can_act(visits: Any, ask: Callable[..., str]) -> None:
    page = visits.open()
    ask(page, "\n\n".join(ATTACKS))
    page.wait_for_timeout(100)
    assert page.evaluate("window.hit") is None
    allowed = {
        "P",
        "A",
        "CODE",
        "PRE",
        "DIV",
        "SPAN",
        "BUTTON",
        "TABLE",
        "THEAD",
        "TBODY",
        "TR",
        "TH",
        "TD",
        "H3",
        "svg",
        "path",
    }
    tags = set(page.eval_on_selector_all(".answer .prose *", "nodes => nodes.map(node => node.tagName)"))
    assert tags <= allowed
    links = page.eval_on_selector_all(".answer .prose a", "nodes => nodes.map(node => node.href)")
    assert all(link.startswith("https://example.org/") for link in links)
    handlers = (
        "nodes => nodes.flatMap(node => [...node.attributes]).filter(({name}) => /^on|style|src/.test(name)).length"
    )
    assert page.eval_on_selector_all(".answer .prose *", handlers) == 0


def test_a_question_is_never_rendered_as_anything_but_text(visits: Any, ask: Callable[..., str]) -> None:
    page = visits.open()
    ask(page, "<b>**not bold**</b>")
    assert page.inner_text(".asked") == "<b>**not bold**</b>"
    assert page.locator(".asked *").count() == 0


BOMBS = [
    "*a **b ",
    "[",
    "](",
    "[a](",
    "`",
    "``` ",
    "~",
    "> ",
    "- ",
    "1. ",
    "|a",
    "_a_b",
    "\\",
    "http://%:",
    "http://a.",
    "![",
    "<",
    "# ",
    "   \n",
    "[x](  ",
    '[x](a "',
    "* * *x\n",
    "|-|\n",
    "> - 1. ",
    "a\u2028",
    "`a``b",
]


@pytest.mark.parametrize("bomb", BOMBS)
def test_the_cost_of_a_bomb_grows_no_faster_than_its_length(render: Callable[[str], Any], bomb: str) -> None:
    def took(num_chars: int) -> float:
        text = (bomb * (num_chars // len(bomb) + 1))[:num_chars]
        return min(render(text)["took"] for _ in range(4))

    # Sixteen times the text may cost no more than sixty times the time: a square law would cost 256 times.
    small = max(took(6_000), 1.0)
    assert took(96_000) < 60 * small
