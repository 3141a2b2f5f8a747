"""Why a run stands where it stands, on one page. Pure: from objects that someone else has read."""
