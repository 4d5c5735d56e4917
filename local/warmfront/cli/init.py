"""`warmfront init`: writes the example shop into a folder."""

import argparse
import shutil
import sys
from pathlib import Path

from warmfront.shop import PARTS, shop_folder

IGNORED = shutil.ignore_patterns("__pycache__", "*.pyc", "node_modules", "bootstrap")

GITIGNORE = """\
.warmfront/
.aws-sam/
results/
__pycache__/
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", type=Path, metavar="DIR", help="folder to write to; it must be new or empty")


def run(args: argparse.Namespace) -> int:
    """Write the shop. Exit status: 0 written, 2 the folder cannot be used."""
    source = shop_folder()
    if source is None:
        print("warmfront init: this installation does not contain the shop; reinstall warmfront", file=sys.stderr)
        return 2
    folder: Path = args.folder
    try:
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            print(f"warmfront init: {folder} exists and is not empty: give a new folder", file=sys.stderr)
            return 2
        write_shop(source, folder)
    except OSError as error:
        print(f"warmfront init: {error.filename or folder}: {error.strerror}", file=sys.stderr)
        return 2
    print(NEXT_STEPS.format(folder=folder))
    return 0


def write_shop(source: Path, folder: Path) -> None:
    """Copy the shop's templates, functions and layer to `folder`, which is created."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in PARTS:
        part = source / name
        if part.is_dir():
            shutil.copytree(part, folder / name, ignore=IGNORED)
        elif part.is_file():
            shutil.copyfile(part, folder / name)
    (folder / ".gitignore").write_text(GITIGNORE, encoding="utf-8")


NEXT_STEPS = """\
The shop is in {folder}. Next:
  cd {folder}
  warmfront serve                                   # then, in another terminal:
  curl http://127.0.0.1:3000/pooled/products/42
  warmfront bench                                   # naive against pooled, in about 3 minutes
  sam build && sam deploy --guided                  # the same template on AWS"""
