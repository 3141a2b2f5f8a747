"""The script that draws the receipts, as a module: it stands in no package."""

from __future__ import annotations

import importlib.util
import sys
from typing import Any

import pytest
from tests.cookbook.tasks import COOKBOOK


@pytest.fixture(scope="session")
def receipts() -> Any:
    spec = importlib.util.spec_from_file_location("make_receipts", COOKBOOK / "receipts" / "make_receipts.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look it up there
    spec.loader.exec_module(module)
    return module
