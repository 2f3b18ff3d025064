# SPDX-License-Identifier: GPL-2.0-only
"""
What posternctl prints, compared with the files in tests/golden to the byte (POSTERN_GOLDEN=write makes them anew: look
at the difference before you commit it), and its documents with their schemas in tests/schema.
"""

import json
import os

from lib.case import expect
from lib.paths import REPOSITORY
from lib.schema import faults

GOLDEN = REPOSITORY / "tests/golden"
SCHEMAS = REPOSITORY / "tests/schema"


def compare(name, seen):
    path = GOLDEN / name
    if os.environ.get("POSTERN_GOLDEN") == "write":
        path.parent.mkdir(exist_ok=True)
        path.write_text(seen)
    wanted = path.read_text() if path.exists() else ""
    for number, (left, right) in enumerate(zip(wanted.splitlines(), seen.splitlines()), 1):
        expect(f"{name}: line {number}", right, left)
    expect(f"{name}: lines", len(seen.splitlines()), len(wanted.splitlines()))


def schema(name):
    return json.loads((SCHEMAS / f"{name}.json").read_text())


def expect_fits(name, text):
    expect(f"{name}: what does not fit its schema", faults(schema(name), json.loads(text)), [])
