"""Texts of objects: from a job as it is stored, and the time, to lines. Pure; golden files hold what they print.

ADR 0175 says why.
"""
