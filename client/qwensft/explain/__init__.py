"""Why a run stands where it stands, on one page. Pure: from objects that someone else has read."""

from .page import Explanation, explain

__all__ = ["Explanation", "explain"]
