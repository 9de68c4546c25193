# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""``python -m monai_diffclf.deploy -i STUDIES -m BUNDLE -o RESULTS``."""

from __future__ import annotations

from .application import application_class

if __name__ == "__main__":
    application_class()().run()
