# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""What networks are built of."""

from __future__ import annotations

from .haar import haar_forward, haar_inverse
from .preconditioning import ChannelPreconditioning

__all__ = ["ChannelPreconditioning", "haar_forward", "haar_inverse"]
