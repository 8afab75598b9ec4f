"""The browser that looks at the pages: Chromium, where there is one."""

import shutil

NAMES = ("chromium", "chromium-browser", "google-chrome")
MISSING = "no Chromium on the PATH (Debian and Ubuntu: apt-get install chromium)"


def find_browser() -> str | None:
    """Its path. Debian's package is the first of the names."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)
