"""The package's long description: the README with its relative links made absolute, so that they work anywhere."""

import re
import tomllib
from pathlib import Path

from setuptools import setup

HERE = Path(__file__).parent
SITE = tomllib.loads((HERE / "pyproject.toml").read_text())["project"]["urls"]["Repository"]


def absolute(text: str) -> str:
    """Links to files lead to the repository's pages, pictures to their raw files."""
    pictures = re.sub(r"(!\[[^]]*\]\()(?!\w+:|#)", rf"\g<1>{SITE}/raw/main/", text)
    return re.sub(r"((?<!!)\[[^]]*\]\()(?!\w+:|#)(?!https?)", rf"\g<1>{SITE}/blob/main/", pictures)


setup(long_description=absolute((HERE / "README.md").read_text()), long_description_content_type="text/markdown")
