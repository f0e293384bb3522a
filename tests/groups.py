"""Which tests share a worker: those of a file, whose fixtures are then made once; those that read
the site, which is built once; and each chapter is a group of its own, so that two run side by side.

By a scheduler of our own and not by --dist loadgroup: xdist 3.8 writes the group into an attribute
that pytest 9.2 no longer reads, and then spreads the tests of a file over all workers.
"""

import re

from xdist.scheduler import LoadScopeScheduling

SITE = ("test_site.py", "test_pages.py", "test_axe.py")


def group(nodeid: str) -> str:
    """Of a test, by its id: "chapter 03", "site", or its file."""
    file = nodeid.split("::")[0]
    if chapter := re.search(r"::test_chapter\[(\d\d)_", nodeid):
        return f"chapter {chapter[1]}"
    return "site" if file.endswith(SITE) else file


class ByGroup(LoadScopeScheduling):
    def _split_scope(self, nodeid: str) -> str:  # as xdist's own LoadFileScheduling does
        return group(nodeid)
