"""The package that is built, installed and cloned is the whole one, and nothing else, on systems without links too."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
WHAT_IS_BUILT = ["iit_toolkit", "pyproject.toml", "README.md", "LICENSE"]


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy to build from: building leaves files, and an old `build/` must not hide what is missing."""
    copy = tmp_path_factory.mktemp("sources")
    ignored = shutil.ignore_patterns("__pycache__", "*.egg-info")
    for name in WHAT_IS_BUILT:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, copy / name, ignore=ignored)
        else:
            shutil.copy(ROOT / name, copy / name)
    return copy


def build_wheel(source: Path, target: Path) -> Path:
    options = ["--no-deps", "--no-build-isolation", "--no-index", "--quiet", "--wheel-dir", str(target)]
    subprocess.run([sys.executable, "-m", "pip", "wheel", *options, str(source)], check=True)
    return next(target.glob("*.whl"))


@pytest.fixture(scope="module")
def wheel(sources: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_wheel(sources, tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def sdist(sources: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("sdist")
    options = ["--sdist", "--no-isolation", "--skip-dependency-check", "--outdir", str(target)]
    subprocess.run([sys.executable, "-m", "build", *options, str(sources)], check=True, capture_output=True)
    return next(target.glob("*.tar.gz"))


def expected_files() -> set[str]:
    """Every module and every file of package data, as found in the checkout."""
    found = {"iit_toolkit/py.typed"}
    data = ("iit_toolkit/assets", "iit_toolkit/analysis/report/templates")
    for path in [
        *(ROOT / "iit_toolkit").rglob("*.py"),
        *(path for place in data for path in (ROOT / place).rglob("*")),
    ]:
        if path.is_file():
            found.add(path.relative_to(ROOT).as_posix())
    return found


def every_module_imports_from(target: Path, cwd: Path) -> None:
    code = (
        "import importlib, pathlib, pkgutil, sys\n"
        "target = pathlib.Path(sys.argv[1]).resolve()\n"
        "sys.path.insert(0, str(target))\n"
        "import iit_toolkit\n"
        "for module in pkgutil.walk_packages(iit_toolkit.__path__, 'iit_toolkit.'):\n"
        "    if module.name != 'iit_toolkit.__main__':\n"
        "        found = importlib.import_module(module.name)\n"
        "        assert target in pathlib.Path(found.__file__).resolve().parents, found.__file__\n"
        "from iit_toolkit.analysis.report.rendering import render\n"
        "print('iit_toolkit.analysis.verification.verify' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(target)], cwd=cwd, capture_output=True, text=True)
    assert (done.returncode, done.stdout.splitlines()[-1:]) == (0, ["True"]), done.stderr


def test_the_wheel_holds_all_files_and_no_others(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
        top = next(name for name in archive.namelist() if name.endswith("entry_points.txt"))
        assert "iit-toolkit = iit_toolkit.cli:main" in archive.read(top).decode()
        assert any(name.endswith("licenses/LICENSE") for name in archive.namelist())
    assert names == expected_files()


def test_the_sdist_builds_the_same_wheel(sdist: Path, wheel: Path, tmp_path: Path) -> None:
    with tarfile.open(sdist) as archive:
        members = {name.partition("/")[2]: member for member in archive for name in [member.name]}
        assert not [name for name in members if name.startswith("analysis")]
        assert not [name for name, member in members.items() if member.issym() or member.islnk()]
        assert expected_files() <= set(members)
        archive.extractall(tmp_path / "unpacked", filter="data")
    [source] = (tmp_path / "unpacked").iterdir()
    again = build_wheel(source, tmp_path / "wheel")
    with zipfile.ZipFile(again) as first, zipfile.ZipFile(wheel) as second:
        assert sorted(first.namelist()) == sorted(second.namelist())


def test_the_installed_wheel_imports_and_runs(wheel: Path, tmp_path: Path) -> None:
    target = tmp_path / "site"
    options = ["--no-deps", "--no-index", "--quiet", "--target", str(target)]
    subprocess.run([sys.executable, "-m", "pip", "install", *options, str(wheel)], check=True)
    assert not (target / "analysis").exists()
    every_module_imports_from(target, tmp_path)


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="no git checkout")
def test_a_clone_without_links_and_an_installation_from_git_are_whole(tmp_path: Path) -> None:
    """As on Windows, where git writes what would be a link as a file of text."""
    listed = subprocess.run(["git", "ls-files", "--stage"], cwd=ROOT, capture_output=True, text=True, check=True)
    assert not [line for line in listed.stdout.splitlines() if line.startswith("120000")]
    clone = ["git", "clone", "--quiet", "--config", "core.symlinks=false", str(ROOT), str(tmp_path / "clone")]
    subprocess.run(clone, check=True)
    every_module_imports_from(tmp_path / "clone", tmp_path)
    options = ["--no-deps", "--no-build-isolation", "--no-index", "--quiet", "--target", str(tmp_path / "site")]
    subprocess.run([sys.executable, "-m", "pip", "install", *options, f"git+file://{ROOT}"], check=True)
    names = {
        path.relative_to(tmp_path / "site").as_posix() for path in (tmp_path / "site" / "iit_toolkit").rglob("*.*")
    }
    assert {name for name in names if not name.endswith(".pyc")} >= {
        path.relative_to(tmp_path / "clone").as_posix() for path in (tmp_path / "clone" / "iit_toolkit").rglob("*.py")
    }
