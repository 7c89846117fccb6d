"""What is built, pinned and promised around the code fits together."""

import re
import subprocess
import sys
import tomllib
import zipfile
from importlib.util import find_spec
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from ldm.manifest import VERSION

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def pins() -> dict[str, str]:
    """constraints.txt as canonical name -> version."""
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    found = [line.split("==") for line in lines if line and not line.startswith("#")]
    return {canonicalize_name(name): version for name, version in found}


def direct_requirements() -> list[Requirement]:
    extras = [line for lines in PROJECT["optional-dependencies"].values() for line in lines]
    found = map(Requirement, PROJECT["dependencies"] + extras)
    return [requirement for requirement in found if requirement.name != "ldm"]


def test_constraints_are_names_and_exact_versions_only() -> None:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pinned = [line for line in lines if not line.startswith("#")]
    wrong = [line for line in pinned if not re.fullmatch(r"[A-Za-z0-9._-]+==[0-9][0-9a-z.]*", line)]
    assert pinned and not wrong
    assert len(pins()) == len(pinned), "a package is pinned twice"


@pytest.mark.parametrize("requirement", direct_requirements(), ids=lambda r: r.name)
def test_direct_dependency_is_bounded_and_pinned_within(requirement: Requirement) -> None:
    operators = {specifier.operator for specifier in requirement.specifier}
    assert operators == {">=", "<"}, f"{requirement} wants a lower and an upper bound"
    version = pins()[canonicalize_name(requirement.name)]
    assert requirement.specifier.contains(version, prereleases=True)


def test_torch_and_torchvision_are_pinned_as_a_pair() -> None:
    from ldm.apps.installation import torch_pair

    assert torch_pair(pins()["torch"], pins()["torchvision"]).status == "ok"


def test_docker_pins_are_those_of_the_constraints() -> None:
    text = (ROOT / "docker" / "Dockerfile").read_text()
    found = re.findall(r"([A-Za-z0-9_-]+)==([0-9][0-9a-z.]*)", text)
    assert {name for name, _ in found} >= {"torch", "torchvision"}
    assert {name: pins()[canonicalize_name(name)] for name, _ in found} == dict(found)


def test_docker_copies_what_exists_and_is_not_ignored() -> None:
    text = (ROOT / "docker" / "Dockerfile").read_text()
    copied = [word for line in re.findall(r"^COPY (.+) \S+$", text, re.M) for word in line.split()]
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    shown = {line[1:].rstrip("/") for line in ignored if line.startswith("!")}
    assert set(copied) == shown
    assert not [name for name in copied if not (ROOT / name).exists()]


def test_docker_runs_as_a_user_under_the_constraints_and_asks_the_doctor() -> None:
    text = (ROOT / "docker" / "Dockerfile").read_text()
    assert re.findall(r"^USER (\S+)", text, re.M)[-1] not in ("root", "0")
    assert "--constraint constraints.txt" in text
    assert re.search(
        r"^HEALTHCHECK .*\\\n\s+CMD \[\"ldm\", \"doctor\", \"quick=true\"\]", text, re.M
    )
    image, tag = re.findall(r"^FROM (\S+):(\S+)", text, re.M)[0]
    assert image == "nvidia/cuda" and tag.endswith("-base-ubuntu24.04")  # with Python 3.12
    assert Requirement(f"python{PROJECT['requires-python']}").specifier.contains("3.12")


def test_license_is_apache_2() -> None:
    text = (ROOT / "LICENSE").read_text()
    assert "Apache License" in text and "Version 2.0, January 2004" in text
    assert "END OF TERMS AND CONDITIONS" in text
    assert PROJECT["license"] == "Apache-2.0"


def test_version_is_the_same_everywhere() -> None:
    assert PROJECT["version"] == VERSION
    assert VERSION in (ROOT / "CHANGELOG.md").read_text()


def test_makefile_has_every_target_and_help_names_them() -> None:
    text = (ROOT / "Makefile").read_text()
    targets = set(re.findall(r"^([a-z-]+):", text, re.M))
    assert targets >= {"setup", "demo", "test", "test-slow", "test-gpu", "bench", "lint", "clean"}
    assert targets == set(re.findall(r"^([a-z-]+):.*## \S", text, re.M)), "a target without help"


def test_make_commands_in_documents_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M))
    documents = [ROOT / "CONTRIBUTING.md", ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]
    text = "\n".join(document.read_text() for document in documents if document.exists())
    named = set(re.findall(r"^\$? ?make ([a-z-]+)", text, re.M))
    named |= set(re.findall(r"`make ([a-z-]+)[^`]*`", text))
    assert named and named <= targets


def test_ci_refuses_a_readme_without_its_commands(tmp_path: Path) -> None:
    (tmp_path / ".ci").mkdir()
    script = tmp_path / ".ci" / "run"
    script.write_text((ROOT / ".ci" / "run").read_text())
    block = "```\nmake lint\nmake docs\n```\n"
    (tmp_path / "README.md").write_text(f"# ldm\n\n## Developing\n\n{block}")
    done = subprocess.run(["bash", str(script)], capture_output=True, text=True)
    assert done.returncode == 1
    assert "make test" in done.stderr


def test_ci_runs_the_commands_and_ends_with_the_closing_line(tmp_path: Path) -> None:
    (tmp_path / ".ci").mkdir()
    script = tmp_path / ".ci" / "run"
    script.write_text((ROOT / ".ci" / "run").read_text())
    block = "```bash\n$ make lint   # ruff and mypy\nmake docs\nmake test\n```\n"
    (tmp_path / "README.md").write_text(f"# ldm\n\n## Developing\n\n{block}\n## Licence\n")
    makefile = tmp_path / "Makefile"
    targets = "docs:\n\t@echo built\ntest:\n\t@echo 3 passed in 0.10s\n\t@echo bye\n"
    makefile.write_text(f"lint:\n\t@echo clean\n{targets}")
    done = subprocess.run(["bash", str(script)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "3 passed in 0.10s"
    makefile.write_text(f"lint:\n\t@exit 3\n{targets}")
    failing = subprocess.run(["bash", str(script)], capture_output=True, text=True)
    assert failing.returncode != 0 and "passed" not in failing.stdout


@pytest.mark.slow  # fetches the build backend where it is not installed
def test_wheel_carries_the_configs_and_the_command(tmp_path: Path) -> None:
    isolation = ["--no-build-isolation"] if find_spec("hatchling") else []
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", *isolation]
    done = subprocess.run(
        [*command, "--wheel-dir", str(tmp_path), str(ROOT)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    with zipfile.ZipFile(next(tmp_path.glob("ldm-*.whl"))) as wheel:
        names = set(wheel.namelist())
        entry_points = next(name for name in names if name.endswith("entry_points.txt"))
        assert "ldm = ldm.apps.main:main" in wheel.read(entry_points).decode()
    configs = {path.relative_to(ROOT) for path in (ROOT / "configs").rglob("*.yaml")}
    assert configs and {f"ldm/{path.as_posix()}" for path in configs} <= names
    assert not [name for name in names if name.startswith(("configs/", "tests/"))]
