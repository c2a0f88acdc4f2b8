"""What the documents say stands: trees, indexes, links, verbs and snippets."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from tests.rules import tree
from tests.rules.reading import ROOT

from catena.core import registry

ROOMS = ("core", "watch", "store", "run", "reach", "console", "cli", "house")
SECTIONS = ("Question", "Decision", "Not chosen", "Consequences")
_FENCE = re.compile(r"^```(\w*)([^\n]*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_VERB = re.compile(r"(?:^|`|/)catena ([a-z]+(?:-[a-z]+)*)", re.MULTILINE)


def documents(root: Path = ROOT) -> dict[str, str]:
    """Every Markdown page at the top and under docs, by its path."""
    paths = [*sorted(root.glob("*.md")), *sorted((root / "docs").rglob("*.md"))]
    return {path.relative_to(root).as_posix(): path.read_text() for path in paths}


def snippets(text: str, language: str) -> list[tuple[str, str]]:
    """Fenced blocks in `language`: what stands after the language on the fence, and the code."""
    return [(words.strip(), code) for name, words, code in _FENCE.findall(text) if name == language]


def broken_snippets(text: str) -> list[str]:
    """Python in `text` that does not compile, or, where its fence says `run`, does not run."""
    found: list[str] = []
    for words, code in snippets(text, "python"):
        try:
            compile(code, "snippet", "exec")
        except SyntaxError as error:
            found.append(f"{error}: {code}")
            continue
        if "run" in words.split():
            done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
            if done.returncode:
                found.append(done.stderr)
    return found


def dead_links(root: Path = ROOT) -> list[str]:
    """Links to files of the project that are not there."""
    found: list[str] = []
    for name, text in documents(root).items():
        for target in _LINK.findall(_FENCE.sub("", text)):
            path = target.partition("#")[0]
            is_ours = path and "://" not in path and not path.startswith("mailto:")
            if is_ours and not ((root / name).parent / path).exists():
                found.append(f"{name}: {target}")
    return found


def unknown_verbs(text: str) -> set[str]:
    """Verbs that `text` tells the reader to type and that do not exist."""
    return set(_VERB.findall(text)) - {name.replace("_", "-") for name in registry.names("verbs")}


def unlisted_decisions(folder: Path) -> set[str]:
    """Rows that the index of decisions lacks, and those it has without a page: number, file and title of each page."""
    titles = {
        path.name: path.read_text().partition("\n")[0].removeprefix(f"# {path.name[:4]} · ")
        for path in folder.glob("0*.md")
    }
    rows = {f"| [{name[:4]}]({name}) | {title} |" for name, title in titles.items()}
    return rows ^ {line for line in (folder / "README.md").read_text().splitlines() if line.startswith("| [0")}


def missing_headings(changelog: str) -> list[str]:
    """Rooms without a heading in the newest section of the changelog."""
    newest = changelog.split("\n## ")[1]
    return [room for room in ROOMS if f"\n### {room}\n" not in newest + "\n"]


@pytest.mark.parametrize("name", tree.READMES)
def test_the_tree_in_the_readme_is_current(name: str) -> None:
    text = (ROOT / name).read_text()
    assert text == tree.filled(text), "run: make docs"


def test_the_page_of_every_file_is_current() -> None:
    assert (ROOT / tree.PAGE).read_text() == tree.page(), "run: make docs"


def test_the_tree_of_the_readme_fits_one_screen() -> None:
    lines = tree.short_tree().splitlines()
    assert tree.MARKS.search((ROOT / "README.md").read_text())
    assert len(lines) <= 76
    assert max(map(len, lines)) <= tree.WIDTH


def test_every_snippet_of_python_compiles_and_those_that_say_so_run() -> None:
    assert {name: broken for name, text in documents().items() if (broken := broken_snippets(text))} == {}


def test_every_link_leads_somewhere() -> None:
    assert dead_links() == []


def test_every_verb_in_the_documents_exists() -> None:
    assert {name: verbs for name, text in documents().items() if (verbs := unknown_verbs(text))} == {}


def test_the_index_lists_every_decision() -> None:
    assert unlisted_decisions(ROOT / "docs" / "decisions") == set()


def test_every_decision_says_what_was_asked_and_decided() -> None:
    for path in sorted((ROOT / "docs" / "decisions").glob("0*.md")):
        text = path.read_text()
        assert text.startswith(f"# {path.name[:4]} · "), path.name
        assert re.search(r"^Date: \d{4}-\d\d-\d\d · Status: \w+", text, re.MULTILINE), path.name
        assert [title for title in SECTIONS if f"\n## {title}" not in text] == [], path.name


def test_the_changelog_has_a_heading_for_each_room() -> None:
    assert missing_headings((ROOT / "CHANGELOG.md").read_text()) == []


def test_a_stale_tree_is_found(tmp_path: Path) -> None:
    package = tmp_path / "src" / "catena" / "core"
    package.mkdir(parents=True)
    (package.parent / "__init__.py").write_text('"""All of it."""')
    (package / "__init__.py").write_text('"""Before."""')
    readme = tree.filled("# T\n<!-- tree -->\n<!-- /tree -->\nend\n", tmp_path)
    assert "core/" in readme and "Before" in readme and readme.endswith("<!-- /tree -->\nend\n")
    assert tree.filled(readme, tmp_path) == readme
    (package / "__init__.py").write_text('"""After."""')
    (package / "new.py").write_text('"""A | new file."""')
    assert tree.filled(readme, tmp_path) != readme
    assert "| [new.py](../src/catena/core/new.py) | A \\| new file |" in tree.page(tmp_path)


@pytest.mark.parametrize(
    "snippet", ["```python\nx = (\n```", "```python run\nimport sys\nsys.exit(3)\n```", "```python run\nassert 0\n```"]
)
def test_a_broken_snippet_is_found(snippet: str) -> None:
    assert broken_snippets(f"words\n\n{snippet}\n")


def test_a_snippet_runs_only_where_it_says_so() -> None:
    assert broken_snippets("```python\nraise ValueError\n```\n```\nnot python (\n```\n") == []


def test_a_dead_link_is_found(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("[a](b.md) [c](README.md#there) [d](https://example.org/x)")
    assert dead_links(tmp_path) == ["README.md: b.md"]


def test_an_unknown_verb_is_found() -> None:
    assert unknown_verbs("run `catena conjure now` or\ncatena ask x\n.venv/bin/catena vanish\n") == {
        "conjure",
        "vanish",
    }


def test_an_unlisted_decision_is_found(tmp_path: Path) -> None:
    (tmp_path / "0001-one.md").write_text("# 0001 · One\n")
    (tmp_path / "0002-two.md").write_text("# 0002 · Two\n")
    (tmp_path / "README.md").write_text("| [0002](0002-two.md) | Two |\n| [0003](0003-three.md) | Three |\n")
    assert unlisted_decisions(tmp_path) == {"| [0001](0001-one.md) | One |", "| [0003](0003-three.md) | Three |"}


def test_a_missing_heading_is_found() -> None:
    assert missing_headings("# C\n\n## Unreleased\n\n### core\n- x\n\n## 0.1\n\n### watch\n") == list(ROOMS[1:])
