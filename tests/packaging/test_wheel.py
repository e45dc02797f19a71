from __future__ import annotations

import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
WHAT_IS_BUILT = ["iit_toolkit", "analysis", "pyproject.toml", "README.md", "LICENSE"]


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy to build from: building leaves files, and an old `build/` must not hide what is missing."""
    copy = tmp_path_factory.mktemp("sources")
    ignored = shutil.ignore_patterns("__pycache__", "*.egg-info")
    for name in WHAT_IS_BUILT:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, copy / name, symlinks=True, ignore=ignored)
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
    """Every module and every file of package data, as found in the checkout, with links followed."""
    found = {"iit_toolkit/py.typed"}
    for path in [*(ROOT / "iit_toolkit").rglob("*.py"), *(ROOT / "iit_toolkit" / "assets").rglob("*")]:
        if path.is_file():
            found.add(path.relative_to(ROOT).as_posix())
    for path in (ROOT / "analysis").rglob("*"):
        if path.is_file() and "__pycache__" not in path.parts:
            found.add(f"iit_toolkit/{path.relative_to(ROOT).as_posix()}")
    return found


def test_the_checkout_has_one_analysis_and_a_link_to_it() -> None:
    link = ROOT / "iit_toolkit" / "analysis"
    assert link.is_symlink()
    assert link.readlink() == Path("../analysis")
    assert (link / "__init__.py").is_file()


def test_the_wheel_holds_all_files_and_no_others(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
        links = [entry.filename for entry in archive.infolist() if entry.external_attr >> 28 == 0xA]
        top = next(name for name in archive.namelist() if name.endswith("entry_points.txt"))
        assert "iit-toolkit = iit_toolkit.cli:main" in archive.read(top).decode()
        assert any(name.endswith("licenses/LICENSE") for name in archive.namelist())
    assert names == expected_files()
    assert links == []


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
    assert (target / "iit_toolkit" / "analysis").is_dir()
    assert not (target / "iit_toolkit" / "analysis").is_symlink()
    code = (
        "import importlib, pathlib, pkgutil, sys\n"
        "target = pathlib.Path(sys.argv[1]).resolve()\n"
        "sys.path.insert(0, str(target))\n"
        "import iit_toolkit\n"
        "for module in pkgutil.walk_packages(iit_toolkit.__path__, 'iit_toolkit.'):\n"
        "    if module.name != 'iit_toolkit.__main__':\n"
        "        found = importlib.import_module(module.name)\n"
        "        assert target in pathlib.Path(found.__file__).resolve().parents, found.__file__\n"
        "print('iit_toolkit.analysis' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(target)], cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stdout.splitlines()[-1:]) == (0, ["True"]), done.stderr
