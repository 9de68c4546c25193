"""Small files and tables."""

from tests.image_fixtures import asymmetric, write_dicom

__all__ = ["asymmetric", "write_dicom"]
