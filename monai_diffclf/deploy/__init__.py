# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""A bundle as an application of the MONAI Deploy App SDK: series in, DICOM results out."""
