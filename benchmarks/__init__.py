"""Measurements, a folder for each question; run from the project's root: ``python -m benchmarks.FOLDER.NAME``.

What they find goes to ``benchmarks/results``, from which ``python -m benchmarks.page.make_page`` makes a page.
"""
