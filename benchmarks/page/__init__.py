"""The page ``docs/benchmark.html``, made of what the others measured."""
