"""Setting up: a Python that fits is found or asked for, and a half-made environment never counts as ready."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.rules.reading import ROOT

SCRIPT = ROOT / "setup" / "environment.sh"

# Stands for an interpreter: it notes its calls, makes a `.venv` whose Python is itself, and fails when told to.
FAKE = """\
#!/bin/sh
echo "$(basename "$0") $*" >> "$CALLS"
case "$*" in
    *version_info*) exit {too_old} ;;
    *ensurepip*) exit {no_venv} ;;
    *"-m venv"*) test -e .venv/.unfinished && mkdir -p .venv/bin && cp "$0" .venv/bin/python ;;
    *"pip "*requirement*) exit "${{PIP_FAILS:-0}}" ;;
    --version) echo Python 3.12.0 ;;
esac
"""


class Checkout:
    """A folder to set up, with its own short PATH of fake interpreters."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.bin = folder / "bin"
        self.bin.mkdir()
        for program in ("basename", "mkdir", "cp", "rm", "touch"):
            (self.bin / program).symlink_to(
                f"/bin/{program}" if Path(f"/bin/{program}").exists() else f"/usr/bin/{program}"
            )
        self.calls = folder / "calls"

    def python(self, name: str, *, too_old: bool = False, no_venv: bool = False) -> None:
        path = self.bin / name
        path.write_text(FAKE.format(too_old=int(too_old), no_venv=int(no_venv)))
        path.chmod(0o755)

    def set_up(self, **environ: str) -> subprocess.CompletedProcess[str]:
        self.calls.write_text("")
        return subprocess.run(
            ["/bin/sh", SCRIPT, ".venv/.ready", "requirements.txt"],
            cwd=self.folder,
            env={"PATH": str(self.bin), "CALLS": str(self.calls), **environ},
            capture_output=True,
            text=True,
            check=False,
        )

    def made_with(self) -> list[str]:
        return [line.split()[0] for line in self.calls.read_text().splitlines() if "-m venv" in line]

    def has(self, name: str) -> bool:
        return (self.folder / ".venv" / name).exists()


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    return Checkout(tmp_path)


def test_the_first_python_that_fits_is_taken(checkout: Checkout) -> None:
    checkout.python("python3", too_old=True)
    checkout.python("python3.12")
    checkout.python("python3.11")
    done = checkout.set_up()
    assert done.returncode == 0, done.stderr
    assert checkout.made_with() == ["python3.12"]
    assert checkout.has(".ready") and not checkout.has(".unfinished")


def test_a_named_python_is_the_only_one_tried(checkout: Checkout) -> None:
    checkout.python("python3")
    checkout.python("mine", too_old=True)
    done = checkout.set_up(PYTHON="mine")
    assert done.returncode == 1
    assert "between 3.11 and 3.14" in done.stderr and not checkout.has(".")


def test_without_a_python_that_fits_it_says_what_to_install(checkout: Checkout) -> None:
    checkout.python("python3", too_old=True)
    done = checkout.set_up()
    assert done.returncode == 1
    assert done.stderr.startswith("error: no Python between 3.11 and 3.14 was found\nhint: ")


def test_a_python_without_ensurepip_is_named_with_the_package_that_is_missing(checkout: Checkout) -> None:
    checkout.python("python3", no_venv=True)
    done = checkout.set_up()
    assert done.returncode == 1
    assert "apt-get install python3-venv" in done.stderr and not checkout.has(".")


def test_an_interrupted_set_up_is_not_ready_and_the_next_one_starts_from_nothing(checkout: Checkout) -> None:
    checkout.python("python3")
    done = checkout.set_up(PIP_FAILS="1")
    assert done.returncode != 0
    assert checkout.has(".unfinished") and not checkout.has(".ready")
    assert checkout.set_up().returncode == 0
    assert checkout.made_with() == ["python3"]
    assert checkout.has(".ready") and not checkout.has(".unfinished")


def test_a_whole_environment_is_kept_when_requirements_change(checkout: Checkout) -> None:
    checkout.python("python3")
    assert checkout.set_up().returncode == 0
    assert checkout.set_up().returncode == 0
    assert checkout.made_with() == []
    assert "--require-hashes --only-binary :all:" in checkout.calls.read_text()


def test_an_environment_whose_python_is_gone_is_made_anew(checkout: Checkout) -> None:
    checkout.python("python3")
    assert checkout.set_up().returncode == 0
    (checkout.folder / ".venv" / "bin" / "python").unlink()
    assert checkout.set_up().returncode == 0
    assert checkout.made_with() == ["python3"]


def machine(tmp_path: Path, *programs: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run setup/machine.py with a PATH that holds `programs` only, each of which prints one line."""
    folder = tmp_path / "path"
    folder.mkdir()
    for program in programs:
        (folder / program).write_text("#!/bin/sh\necho Some Font\n")
        (folder / program).chmod(0o755)
    variables = {name: value for name, value in os.environ.items() if name not in ("CI", "CATENA_TEST_BROWSER")}
    return subprocess.run(
        [sys.executable, ROOT / "setup" / "machine.py"],
        env={**variables, "PATH": str(folder), **environ},
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_machine_that_has_everything_is_left_alone(tmp_path: Path) -> None:
    done = machine(tmp_path, "chromium", "fc-list", CI="true")
    assert (done.returncode, done.stdout) == (0, "")


def test_a_missing_browser_is_named_with_the_tests_that_need_it(tmp_path: Path) -> None:
    done = machine(tmp_path, "fc-list")
    assert done.returncode == 0
    assert "apt-get install chromium" in done.stdout
    assert "tests/console/test_conversation.py" in done.stdout and "tests/watch" not in done.stdout


def test_in_ci_nothing_may_be_missing(tmp_path: Path) -> None:
    assert machine(tmp_path, "chromium", CI="true").returncode == 1
